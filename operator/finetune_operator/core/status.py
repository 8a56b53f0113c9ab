"""The status of a run as a whole: how it begins, and how it is completed after every look."""

from __future__ import annotations

from datetime import datetime

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import Artifacts, Resolved, StageStatus, Status
from finetune_operator.core import results, stages
from finetune_operator.core.conditions import Situation, conditions
from finetune_operator.core.model import JobRecord, Plan
from finetune_operator.core.moments import to_text
from finetune_operator.core.naming import claim_of
from finetune_operator.core.plan import hash_for
from finetune_operator.core.text import short
from finetune_operator.vocabulary import Phase, Stage, StageState

FINAL = frozenset({Phase.SUCCEEDED, Phase.FAILED})


def begun(resource: FineTuneJob, plan: Plan, jobs: tuple[JobRecord, ...], now: datetime) -> Status:
    """The status of a run that starts, or starts over, with this plan.

    What a former plan has found out and made is dropped; its failed attempts stay readable, and
    attempt numbers go on, so that names never meet.
    """
    former = resource.status
    return Status(
        conditions=former.conditions,
        phase=former.phase,
        plan_hash=plan.hash,
        rerun_token=resource.spec.rerun_token,
        start_time=to_text(now),
        stages=[_to_come(former, stage, plan, jobs, first=plan.stages[0]) for stage in plan.stages],
        attempts=former.attempts,
        artifacts=Artifacts(
            claim_name=claim_of(resource.metadata.name, resource.spec.storage.claim_name)
        ),
        resolved=Resolved(
            trainer_image=plan.trainer_image,
            learning_rate=short(plan.run["training"]["learningRate"]),
        ),
    )


def begun_again(former: Status, plan: Plan, jobs: tuple[JobRecord, ...]) -> Status:
    """The status of a run that goes on with this plan, which continues the one it had.

    Stages that the plan leaves as they were stay what they are; the others are yet to come, and
    what they have made counts no more.
    """
    anew = [stage for stage in plan.stages if hash_for(plan, stage) == plan.hash]
    kept = {stage for stage in plan.stages if stage not in anew}
    for entry in former.stages:
        if entry.name not in kept:
            former = results.withdrawn(former, entry.name)
    entries = [entry for entry in former.stages if entry.name in kept]
    entries += [_to_come(former, stage, plan, jobs, first=anew[0]) for stage in anew]
    return former.model_copy(update={"plan_hash": plan.hash, "stages": entries})


def completed(status: Status, situation: Situation, generation: int, now: datetime) -> Status:
    """The status with everything that follows from where the run stands."""
    entry = stages.current(status)
    ended = situation.phase in FINAL
    last = status.stages[-1].name if status.stages else None
    return status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": conditions(status, situation, generation, now),
            "phase": situation.phase,
            "stage": entry.name if entry else last,
            "message": situation.message,
            "completion_time": (status.completion_time or to_text(now)) if ended else None,
        }
    )


def seen(status: Status, generation: int) -> Status:
    """The status of a run that has ended, for another generation of its spec."""
    if status.observed_generation == generation:
        return status
    return status.model_copy(
        update={
            "observed_generation": generation,
            "conditions": [
                condition.model_copy(update={"observed_generation": generation})
                for condition in status.conditions
            ],
        }
    )


def _to_come(
    former: Status, stage: Stage, plan: Plan, jobs: tuple[JobRecord, ...], first: Stage
) -> StageStatus:
    """The entry of a stage that is to run by this plan; `first`: the first of these stages."""
    # A Job of the first stage that bears this plan was made by this very start, whose status was
    # never written. One of a later stage can only be from an earlier run with the same plan.
    taken = [
        job.attempt
        for job in jobs
        if job.stage == stage and (job.plan_hash != plan.hash or stage is not first)
    ]
    recorded = [entry.attempt for entry in former.stages if entry.name == stage]
    return StageStatus(name=stage, state=StageState.PENDING, attempt=max([0, *taken, *recorded]))
