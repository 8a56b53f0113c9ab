"""`FineTuneJob.status`: what the operator reports, small and bounded; `phase` is derived.

Numbers that are not whole are strings, as everywhere in the API. All members are optional: a status
is built up.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_operator.api.schema import ApiModel
from finetune_operator.vocabulary import Phase, Stage, StageState

Sentence = Annotated[str, Field(max_length=4096)]
Short = Annotated[str, Field(max_length=256)]
Time = Annotated[str, Field(max_length=32, json_schema_extra={"format": "date-time"})]
METRICS_LIMIT = 16


def _is_zero(count: int) -> bool:
    return count == 0


class Condition(ApiModel):
    """As metav1.Condition."""

    type: Annotated[str, Field(min_length=1, max_length=64)] = Field(description="Condition type.")
    status: Annotated[str, Field(pattern="^(True|False|Unknown)$", max_length=8)] = Field(
        description="True, False or Unknown."
    )
    reason: Annotated[str, Field(min_length=1, max_length=128)] = Field(
        description="One CamelCase word for programs."
    )
    message: Sentence = Field(default="", description="One sentence for people.")
    last_transition_time: Time = Field(description="When status last changed.")
    observed_generation: int | None = Field(
        default=None, ge=0, description="Generation that this was seen at."
    )


class StageStatus(ApiModel):
    """One stage of the run."""

    name: Stage = Field(description="prepare, train, merge or upload.")
    state: StageState = Field(description="Pending, Running, Succeeded or Failed.")
    attempt: int = Field(
        default=0, ge=0, le=9999, description="Number of the latest attempt; 0 before the first."
    )
    failures: int = Field(
        default=0,
        ge=0,
        le=9999,
        exclude_if=_is_zero,
        description="Attempts that count as failed since the start, the last rerun or the last "
        "one that came further than the one before, without those that ran out of memory.",
    )
    out_of_memory: int = Field(
        default=0,
        ge=0,
        le=9999,
        exclude_if=_is_zero,
        description="Attempts that ran out of memory since the start or the last rerun.",
    )
    job: Short | None = Field(default=None, description="Job of the latest attempt.")
    start_time: Time | None = Field(default=None, description="Start of the first attempt.")
    completion_time: Time | None = Field(default=None, description="When the stage ended.")
    message: Sentence | None = Field(default=None, description="What it waits for, or its result.")


class ProgressDisplay(ApiModel):
    """The same for kubectl's columns."""

    percent: Short | None = Field(default=None, description="As in 42%.")
    step: Short | None = Field(default=None, description="As in 84/200.")


class Progress(ApiModel):
    """How far training is."""

    percent: int | None = Field(default=None, ge=0, le=100, description="Share of the steps done.")
    step: int | None = Field(default=None, ge=0, description="Optimizer steps done.")
    total_steps: int | None = Field(default=None, ge=0, description="Optimizer steps of the run.")
    checkpoint_step: int | None = Field(
        default=None, ge=0, description="Step of the newest checkpoint; 0 before the first."
    )
    epoch: Short | None = Field(default=None, description="Passes over the data so far.")
    tokens_per_second: Short | None = Field(default=None, description="Over all processes.")
    eta_seconds: int | None = Field(default=None, ge=0, description="Estimated time left.")
    at: Time | None = Field(default=None, description="When this was reported.")
    display: ProgressDisplay | None = Field(default=None, description="For kubectl's columns.")


class Attempt(ApiModel):
    """An attempt that ended without success."""

    stage: Stage = Field(description="Its stage.")
    attempt: int = Field(ge=1, le=9999, description="Its number.")
    job: Short = Field(description="Its Job.")
    reason: Short = Field(description="Why it ended: UserError, OutOfMemory, Evicted, …")
    exit_code: int | None = Field(default=None, ge=0, le=255, description="Of the container.")
    node: Short | None = Field(default=None, description="Where it ran.")
    step: int | None = Field(default=None, ge=0, description="Optimizer step it had come to.")
    message: Sentence | None = Field(default=None, description="What happened.")
    finished_at: Time | None = Field(default=None, description="When it ended.")


class Artifacts(ApiModel):
    """What the run has made so far."""

    claim_name: Short | None = Field(default=None, description="Claim of the workspace.")
    adapter: Short | None = Field(default=None, description="Path of the adapter in it.")
    merged: Short | None = Field(default=None, description="Path of the whole model in it.")
    repository: Short | None = Field(default=None, description="Repository on the Hub.")
    commit: Short | None = Field(default=None, description="Commit in that repository.")
    url: Short | None = Field(default=None, description="Address of that repository.")


class Resolved(ApiModel):
    """What was derived, so that nobody has to guess what ran."""

    trainer_image: Annotated[str, Field(max_length=512)] | None = Field(
        default=None, description="Image of the stages."
    )
    model_commit: Short | None = Field(default=None, description="Commit of the base model.")
    dataset_commit: Short | None = Field(
        default=None, description="Commit of the data set; of several, how each begins."
    )
    learning_rate: Short | None = Field(default=None, description="Peak learning rate.")
    total_steps: int | None = Field(default=None, ge=0, description="Optimizer steps planned.")
    parameters: int | None = Field(default=None, ge=0, description="Weights of the model.")
    trainable_parameters: int | None = Field(default=None, ge=0, description="Weights trained.")
    strategy: Short | None = Field(
        default=None, description="How the training processes shared the model."
    )
    strategy_reason: Short | None = Field(default=None, description="Why it was that one.")
    rows: int | None = Field(default=None, ge=0, description="Rows used for training.")
    tokens: int | None = Field(default=None, ge=0, description="Tokens of the training data.")
    supervised_tokens: int | None = Field(default=None, ge=0, description="Tokens trained on.")
    time_estimate: Short | None = Field(
        default=None, description="How long training takes and on what, estimated by prepare."
    )


class Memory(ApiModel):
    """Memory of one training process, as quantities."""

    estimated: Short | None = Field(default=None, description="Estimate made by prepare.")
    measured: Short | None = Field(default=None, description="Peak measured by train.")


class Status(ApiModel):
    """The state of the run."""

    observed_generation: int | None = Field(
        default=None,
        ge=-1,
        description="Generation of the spec that this status is about; -1 before the first look.",
    )
    conditions: list[Condition] = Field(
        default=[],
        max_length=16,
        description="Ready, Succeeded, Failed, Suspended, Reconciling, Stalled, and one a stage.",
        json_schema_extra={"x-list-map-keys": ["type"]},
    )
    phase: Phase | None = Field(default=None, description="One word for people.")
    stage: Stage | None = Field(default=None, description="The stage that the run is in.")
    message: Sentence | None = Field(default=None, description="One sentence on where it stands.")
    start_time: Time | None = Field(default=None, description="When the plan was pinned.")
    completion_time: Time | None = Field(default=None, description="When the run ended.")
    plan_hash: Short | None = Field(
        default=None,
        description="Names the pinned plan; the same hash is the same run. A rerun with other "
        "settings gives it another one.",
    )
    rerun_token: Short | None = Field(
        default=None, description="The value of spec.rerunToken that has been acted on."
    )
    stages: list[StageStatus] = Field(
        default=[],
        max_length=8,
        description="The stages of this run, in order.",
        json_schema_extra={"x-list-map-keys": ["name"]},
    )
    progress: Progress | None = Field(default=None, description="How far training is.")
    metrics: dict[str, Annotated[str, Field(max_length=64)]] = Field(
        default={}, max_length=METRICS_LIMIT, description="Latest metrics: loss, validationLoss, …"
    )
    memory: Memory | None = Field(default=None, description="Estimated and measured memory.")
    attempts: list[Attempt] = Field(
        default=[], max_length=10, description="Attempts that failed, the latest ten."
    )
    artifacts: Artifacts | None = Field(default=None, description="What the run has made.")
    resolved: Resolved | None = Field(default=None, description="What was derived.")
