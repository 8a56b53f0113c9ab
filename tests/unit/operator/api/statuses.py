"""A status in which every field has a value."""

from __future__ import annotations

from finetune_operator.api.status import (
    Artifacts,
    Attempt,
    Condition,
    Memory,
    Progress,
    ProgressDisplay,
    Resolved,
    StageStatus,
    Status,
)
from finetune_operator.vocabulary import Phase, Stage, StageState

_NOW = "2026-01-31T12:00:00Z"

FULL_STATUS = Status(
    observed_generation=1,
    conditions=[
        Condition(
            type="Ready",
            status="False",
            reason="Training",
            message="train runs",
            last_transition_time=_NOW,
            observed_generation=1,
        )
    ],
    phase=Phase.TRAINING,
    stage=Stage.TRAIN,
    message="Training",
    start_time=_NOW,
    completion_time=_NOW,
    plan_hash="0f4c2b6a9d31",
    rerun_token="first",
    stages=[
        StageStatus(
            name=Stage.TRAIN,
            state=StageState.RUNNING,
            attempt=2,
            failures=1,
            out_of_memory=1,
            job="job-train-2",
            start_time=_NOW,
            completion_time=_NOW,
            message="Waits for a node",
        )
    ],
    progress=Progress(
        percent=52,
        step=489,
        total_steps=940,
        checkpoint_step=480,
        epoch="0.52",
        tokens_per_second="1234.5",
        eta_seconds=60,
        at=_NOW,
        display=ProgressDisplay(percent="52%", step="489/940"),
    ),
    metrics={"loss": "0.8114"},
    memory=Memory(estimated="10Gi", measured="9Gi"),
    attempts=[
        Attempt(
            stage=Stage.TRAIN,
            attempt=1,
            job="job-train-1",
            reason="OutOfMemory",
            exit_code=12,
            node="node-1",
            step=84,
            message="Out of memory",
            finished_at=_NOW,
        )
    ],
    artifacts=Artifacts(
        claim_name="job",
        adapter="adapter",
        merged="merged",
        repository="acme/result",
        commit="0" * 40,
        url="https://hub.test/acme/result",
    ),
    resolved=Resolved(
        trainer_image="trainer:1",
        model_commit="0" * 40,
        dataset_commit="0" * 40,
        learning_rate="2e-4",
        total_steps=940,
        parameters=134515008,
        trainable_parameters=1000,
        rows=1900,
        tokens=100000,
        supervised_tokens=50000,
        time_estimate="48 min on 3 NVIDIA H100",
        strategy="FSDP",
        strategy_reason="it does not fit",
    ),
)
