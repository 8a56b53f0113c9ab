"""Facts → what to do and what to say. Read from top to bottom it is the life of a run.

Level-triggered: nothing is remembered but what status holds, so a decision that was carried out in
part, or not recorded, is made again with the same outcome. The policies stand in files of their
own; here is only their order.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from finetune_operator.api.status import StageStatus, Status
from finetune_operator.core import (
    attempts,
    checkpointing,
    events,
    progress,
    record,
    refusal,
    renewal,
    stages,
    suspend,
    waiting,
)
from finetune_operator.core import status as whole
from finetune_operator.core.conditions import Situation
from finetune_operator.core.model import (
    Action,
    CreateJob,
    CreateService,
    Decision,
    DeleteJob,
    JobRecord,
    JobState,
    Observed,
    Plan,
    Settings,
    Termination,
)
from finetune_operator.core.moments import to_text
from finetune_operator.core.naming import ATTEMPT_LIMIT, job_name
from finetune_operator.core.pinned import Footing, footing
from finetune_operator.core.queueing import queue_labels
from finetune_operator.core.remedy import with_remedy
from finetune_operator.vocabulary import (
    PHASE_OF_STAGE,
    ConditionType,
    Phase,
    Stage,
    StageState,
    WaitReason,
)

_ENDED = (JobState.SUCCEEDED, JobState.FAILED)


@dataclass(frozen=True, slots=True)
class _Step:
    """What to do next, and where that leaves the run."""

    status: Status
    situation: Situation
    actions: tuple[Action, ...] = ()
    requeue_after: float | None = None


def decide(observed: Observed, settings: Settings, now: datetime) -> Decision:
    """What brings this run closer to what its spec says."""
    resource = observed.resource
    if resource.metadata.deletion_timestamp is not None:
        # With a finalizer of somebody else's it may stay for ever, and must not keep its GPUs. Who
        # orphans what it owns wants that to go on.
        orphaned = "orphan" in resource.metadata.finalizers
        return Decision(() if orphaned else _stop(_live(observed)), resource.status)
    ground = footing(observed, settings, now)
    if ground.ended:
        status = whole.seen(ground.status, resource.metadata.generation)
        return Decision(_stop(_live(observed)), status)
    step = _step(observed, ground, now)
    status = whole.completed(step.status, step.situation, resource.metadata.generation, now)
    return Decision(
        actions=(*ground.actions, *step.actions),
        status=status,
        events=events.between(resource.status, status),
        requeue_after=step.requeue_after,
    )


def _step(observed: Observed, ground: Footing, now: datetime) -> _Step:
    status, plan = ground.status, ground.plan
    if observed.refusal is not None and ground.begins:
        # The start itself was refused: nothing of it may be in status before it has come about.
        status, plan = observed.resource.status, None
    if plan is not None:
        status = record.recorded(status, observed, plan, now)
    if observed.refusal is not None:
        if observed.refusal.final:
            return _Step(*refusal.failed(observed.resource, status, observed.refusal))
        return _Step(*refusal.waits(status, observed.refusal, starts=ground.begins))
    if ground.refused is not None:
        return _Step(*refusal.failed(observed.resource, status, ground.refused))
    if plan is None:
        return _Step(status, suspend.situation(status), _stop(_live(observed)))
    entry = stages.current(status)
    if entry is None:
        return _Step(status, _succeeded(status), _stop(_live(observed)))
    return _in_stage(observed, ground, status, plan, entry, now)


def _in_stage(
    observed: Observed,
    ground: Footing,
    status: Status,
    plan: Plan,
    entry: StageStatus,
    now: datetime,
) -> _Step:
    live = _live(observed)
    running = entry.state is StageState.RUNNING
    own = next((job for job in live if running and job.name == entry.job), None)
    renewed = own and renewal.is_due(own, observed.resource, asked=ground.renews)
    strays = [job for job in live if job is not own]
    if entry.state is StageState.FAILED:
        return _Step(status, _failed(status, entry), _stop(live))
    if observed.resource.spec.suspend:
        if entry.name is Stage.TRAIN:
            # Its pods report the checkpoint that they save before they end.
            stopped = job_name(observed.resource.metadata.name, entry.name, entry.attempt)
            status = progress.of_stopped(status, observed.report, stopped)
        status = suspend.suspended(status)
        return _Step(status, suspend.situation(status), _stop(live))
    if own is not None and renewed:
        return _Step(
            stages.stopped(status, entry.name), _waits_for(observed, entry, own, now), _stop(live)
        )
    if own is not None:
        return _running(observed, status, own, strays, now)
    if strays:
        return _Step(status, _waits_for(observed, entry, strays[0], now), _stop(strays))
    latest = stages.failed_attempt(status, entry)
    delay = attempts.seconds_until_due(entry, latest, now)
    if latest is not None and delay > 0:
        return _Step(status, _pauses(entry, now + timedelta(seconds=delay)), requeue_after=delay)
    return _create(observed, status, plan, entry, now)


def _create(
    observed: Observed, status: Status, plan: Plan, entry: StageStatus, now: datetime
) -> _Step:
    stage, attempt = entry.name, entry.attempt + 1
    if attempt > ATTEMPT_LIMIT:
        return _Step(*refusal.failed(observed.resource, status, attempts.used_up(entry)))
    name = job_name(observed.resource.metadata.name, stage, attempt)
    actions: list[Action] = [CreateJob(stage, attempt, plan)]
    if stage is Stage.TRAIN and plan.run["resources"]["nodes"] > 1:
        # First the names, then the pods that look each other up; again for every attempt, so that
        # a Service that was lost comes back.
        actions.insert(0, CreateService())
    status = record.started(status, stage, attempt, name, now)
    # Whoever queues it lets it run: nothing else may come to be heard of it until then.
    queued = queue_labels(observed.resource.metadata.labels)
    state = JobState.SUSPENDED if queued else JobState.RUNNING
    return _Step(status, _runs(stage, name, state), tuple(actions))


def _running(
    observed: Observed, status: Status, job: JobRecord, strays: list[JobRecord], now: datetime
) -> _Step:
    if job.state is JobState.WAITING:
        return _starting(observed, status, job, strays, now)
    if job.stage is Stage.TRAIN:
        status = progress.applied(status, observed.report, job)
    stuck = waiting.stuck(job.stage, observed.waiting.get(job.name), now)
    status = stages.changed(status, job.stage, message=stuck)
    situation = _runs(job.stage, job.name, job.state)
    complaint = checkpointing.complaint(observed.resource.metadata.annotations)
    if stuck:
        situation = Situation(PHASE_OF_STAGE[job.stage], str(waiting.STUCK), stuck)
    elif complaint and job.stage is Stage.TRAIN:
        reason = str(WaitReason.CHECKPOINT_REQUEST_INVALID)
        situation = Situation(situation.phase, reason, f"{situation.message} {complaint}")
    return _Step(status, situation, _stop(strays))


def _starting(
    observed: Observed, status: Status, job: JobRecord, strays: list[JobRecord], now: datetime
) -> _Step:
    wait = observed.waiting.get(job.name)
    if wait is None:
        return _Step(status, _as_before(status, job), _stop(strays))
    failure = waiting.given_up(observed.resource, job, wait, now)
    if failure is None:
        message = waiting.describe(observed.resource, job.stage, wait)
        status = stages.changed(status, job.stage, message=message)
        situation = Situation(PHASE_OF_STAGE[job.stage], waiting.reason(wait), message)
        return _Step(status, situation, _stop(strays))
    status = record.failed(status, job, failure, Termination(), now)
    entry = stages.entry_of(status, job.stage)
    ended = entry.state is StageState.FAILED
    situation = _failed(status, entry) if ended else _waits_for(observed, entry, job, now)
    return _Step(status, situation, _stop([job, *strays]))


def _as_before(status: Status, job: JobRecord) -> Situation:
    """A Job that was not looked into yet: what was told of it may still hold."""
    phase = PHASE_OF_STAGE[job.stage]
    ready = next((item for item in status.conditions if item.type == ConditionType.READY), None)
    if ready is None or status.phase is not phase:
        return _runs(job.stage, job.name)
    return Situation(phase, ready.reason, ready.message)


def _live(observed: Observed) -> list[JobRecord]:
    return [job for job in observed.jobs if job.state not in _ENDED]


def _stop(jobs: list[JobRecord]) -> tuple[Action, ...]:
    return tuple(DeleteJob(job.name, job.uid) for job in jobs if job.state != JobState.DELETING)


def _runs(stage: Stage, job: str, state: JobState = JobState.RUNNING) -> Situation:
    said = {
        JobState.SUSPENDED: f"{stage} is queued: Job {job} is suspended.",
        JobState.STOPPING: f"{stage} is being stopped: a pod of Job {job} ends.",
        JobState.DELETING: f"{stage} is being stopped: Job {job} was deleted.",
    }
    phase = PHASE_OF_STAGE[stage]
    return Situation(phase, str(phase), said.get(state, f"{stage} runs as Job {job}."))


def _waits_for(observed: Observed, entry: StageStatus, job: JobRecord, now: datetime) -> Situation:
    phase = PHASE_OF_STAGE[entry.name]
    stuck = waiting.stuck(entry.name, observed.waiting.get(job.name), now)
    if stuck:
        return Situation(phase, str(waiting.STUCK), stuck)
    return Situation(
        phase,
        str(WaitReason.STOPPING),
        f"{entry.name} waits until Job {job.name} has stopped.",
    )


def _pauses(entry: StageStatus, until: datetime) -> Situation:
    phase = PHASE_OF_STAGE[entry.name]
    text = f"{entry.name} is tried again at {to_text(until)}: {entry.message}"
    return Situation(phase, str(WaitReason.RETRYING), text)


def _failed(status: Status, entry: StageStatus) -> Situation:
    latest = stages.failed_attempt(status, entry)
    reason = latest.reason if latest else str(Phase.FAILED)
    retried = latest is not None and latest.reason not in attempts.NEVER_AGAIN
    return Situation(Phase.FAILED, reason, with_remedy(entry.message or "", retried=retried))


def _succeeded(status: Status) -> Situation:
    made = status.artifacts
    if made and made.repository and made.commit:
        text = f"Published {made.repository} at commit {made.commit}."
    else:
        text = status.stages[-1].message or ""
    return Situation(Phase.SUCCEEDED, str(Phase.SUCCEEDED), text)
