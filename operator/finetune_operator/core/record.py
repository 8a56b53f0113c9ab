"""What has become of the Jobs, taken into status: the only way by which an attempt's end gets in.

Idempotent, and caught up after any interruption: attempts that status does not know of yet are
taken in one after the other. What is to be done next is decided in decide.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from finetune_operator.api.status import Attempt, StageStatus, Status
from finetune_operator.core import attempts, progress, results, stages
from finetune_operator.core.failure import Failure, completed, deleted, explain
from finetune_operator.core.model import JobRecord, JobState, Observed, Plan, Termination
from finetune_operator.core.moments import to_text
from finetune_operator.core.plan import hash_for
from finetune_operator.core.text import sentence, short
from finetune_operator.vocabulary import Stage, StageState

ATTEMPTS_KEPT = 10
EXIT_CODES = range(256)
_OPEN = StageState.PENDING


def recorded(status: Status, observed: Observed, plan: Plan, now: datetime) -> Status:
    """The status with every end of an attempt that can be seen now."""
    for stage in plan.stages:
        status = _stage(status, stage, observed, plan, now)
        if stages.entry_of(status, stage).state is not StageState.SUCCEEDED:
            break
    return status


def started(status: Status, stage: Stage, attempt: int, job: str, now: datetime) -> Status:
    """The status of a run whose stage runs as this Job."""
    entry = stages.entry_of(status, stage)
    return stages.changed(
        status,
        stage,
        state=StageState.RUNNING,
        attempt=attempt,
        job=job,
        start_time=entry.start_time or to_text(now),
        completion_time=None,
        message=None,
    )


def failed(
    status: Status, job: JobRecord, failure: Failure, left: Termination, now: datetime
) -> Status:
    """The status after this attempt: the stage waits for the next one, or has failed."""
    at = job.completion_time or to_text(now)
    attempt = Attempt(
        stage=job.stage,
        attempt=job.attempt,
        job=job.name,
        reason=str(failure.reason),
        exit_code=left.exit_code if left.exit_code in EXIT_CODES else None,
        node=short(left.node),
        step=_step(status, job.stage),
        message=failure.message,
        finished_at=at,
    )
    entry = stages.entry_of(status, job.stage).model_copy(update={"attempt": job.attempt})
    advanced = attempts.advanced(attempt, status.attempts)
    entry = entry.model_copy(update=attempts.counted(entry, failure.reason, advanced=advanced))
    again = attempts.may_retry(entry, failure.reason)
    status = stages.changed(
        status,
        job.stage,
        state=StageState.PENDING if again else StageState.FAILED,
        attempt=job.attempt,
        job=job.name,
        failures=entry.failures,
        out_of_memory=entry.out_of_memory,
        completion_time=None if again else at,
        message=failure.message,
    )
    return status.model_copy(update={"attempts": [*status.attempts, attempt][-ATTEMPTS_KEPT:]})


def _stage(status: Status, stage: Stage, observed: Observed, plan: Plan, now: datetime) -> Status:
    entry = stages.entry_of(status, stage)
    if entry.state in (StageState.SUCCEEDED, StageState.FAILED):
        return status
    running = entry.state is StageState.RUNNING
    jobs = {
        job.attempt: job
        for job in observed.jobs
        if job.stage == stage
        and job.plan_hash == hash_for(plan, stage)
        and job.attempt >= entry.attempt + (not running)
    }
    if running and entry.attempt not in jobs:
        status = _vanished(status, entry, observed, plan, now)
    for attempt in sorted(jobs):
        if attempt > entry.attempt and stages.entry_of(status, stage).state is not _OPEN:
            break
        status = _attempt(status, jobs[attempt], observed, now)
    return status


def _step(status: Status, stage: Stage) -> int | None:
    """The step that training has come to, in the attempts so far."""
    return status.progress.step if stage is Stage.TRAIN and status.progress else None


def _attempt(status: Status, job: JobRecord, observed: Observed, now: datetime) -> Status:
    entry = stages.entry_of(status, job.stage)
    if entry.attempt != job.attempt or entry.state is not StageState.RUNNING:
        status = started(status, job.stage, job.attempt, job.name, now)
    if job.stage is Stage.TRAIN and job.state in (JobState.SUCCEEDED, JobState.FAILED):
        # What was reported last may not have been written yet.
        status = progress.applied(status, observed.report, job)
    left = observed.terminations.get(job.name, Termination())
    match job.state:
        case JobState.SUCCEEDED:
            return _succeeded(status, job, left, now)
        case JobState.FAILED:
            left = completed(job, left)
            failure = explain(job, left)
            if _stopped_on_purpose(observed, job.name, failure):
                return status
            return failed(status, job, failure, left, now)
    return status


def _stopped_on_purpose(observed: Observed, job: str, failure: Failure) -> bool:
    # The pods of a Job that was told to stop end in whatever way; only what no attempt can mend is
    # a failure.
    stopped = bool(observed.resource.spec.suspend) or job in observed.stopped
    return stopped and failure.reason not in attempts.NEVER_AGAIN


def _vanished(
    status: Status, entry: StageStatus, observed: Observed, plan: Plan, now: datetime
) -> Status:
    if observed.resource.spec.suspend:
        return status
    name = entry.job or ""
    if name in observed.stopped:
        return stages.stopped(status, entry.name)
    gone = JobRecord(
        name=name,
        uid="",
        owner_uid=observed.resource.metadata.uid,
        stage=entry.name,
        attempt=entry.attempt,
        plan_hash=plan.hash,
        template_hash="",
        state=JobState.FAILED,
    )
    return failed(status, gone, deleted(name, entry.name), Termination(), now)


def _succeeded(status: Status, job: JobRecord, left: Termination, now: datetime) -> Status:
    at = job.completion_time or to_text(now)
    status = stages.changed(
        status,
        job.stage,
        state=StageState.SUCCEEDED,
        completion_time=at,
        message=sentence(left.document.get("message") or f"{job.stage} is done."),
    )
    result = left.document.get("result")
    return results.applied(status, job.stage, result if isinstance(result, Mapping) else {}, at)
