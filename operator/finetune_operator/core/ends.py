"""Which attempts and stages a change of status has ended: what counters count. Pure.

Every end gets into status once, by one write; so counted with that write none counts twice, also
over a restart. An operator that dies between the write and the count leaves that one out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from finetune_operator.api.status import StageStatus, Status
from finetune_operator.core.model import Observed, Termination
from finetune_operator.core.moments import seconds_since, to_text
from finetune_operator.vocabulary import Stage, StageState

SUCCEEDED, FAILED, STOPPED = "Succeeded", "Failed", "Stopped"
OUTCOMES = (SUCCEEDED, FAILED, STOPPED)


@dataclass(frozen=True, slots=True)
class AttemptEnd:
    """An attempt that is over. `reason`: as in status.attempts, or the outcome itself.

    `seconds`: for how long its pods ran, None where nobody knows any more.
    """

    stage: Stage
    outcome: str
    reason: str
    seconds: float | None


@dataclass(frozen=True, slots=True)
class StageEnd:
    """A stage that is over; `seconds` from its first attempt's start, pauses included."""

    stage: Stage
    outcome: str
    seconds: float


def attempts_ended(
    old: Status, new: Status, observed: Observed, now: datetime
) -> Iterator[AttemptEnd]:
    """The attempts that `new` tells the end of and `old` did not."""
    known = {(a.stage, a.attempt, a.finished_at) for a in old.attempts}
    ended: set[str | None] = set()
    for attempt in new.attempts:
        if (attempt.stage, attempt.attempt, attempt.finished_at) not in known:
            ended.add(attempt.job)
            seconds = _ran(observed, attempt.job, now)
            yield AttemptEnd(attempt.stage, FAILED, attempt.reason, seconds)
    for entry in new.stages:
        if entry.state is StageState.SUCCEEDED and _before(old, new, entry) is not entry.state:
            ended.add(entry.job)
            seconds = _ran(observed, entry.job, now)
            yield AttemptEnd(entry.name, SUCCEEDED, SUCCEEDED, seconds)
    running = {e.job for e in new.stages if e.state is StageState.RUNNING}
    for entry in old.stages:
        if entry.state is StageState.RUNNING and entry.job not in ended | running:
            yield AttemptEnd(entry.name, STOPPED, STOPPED, _ran(observed, entry.job, now))


def stages_ended(old: Status, new: Status) -> Iterator[StageEnd]:
    """The stages that `new` tells the end of and `old` did not."""
    for entry in new.stages:
        if entry.state not in (StageState.SUCCEEDED, StageState.FAILED):
            continue
        if _before(old, new, entry) is entry.state:
            continue
        if entry.start_time is None or entry.completion_time is None:
            continue
        seconds = seconds_since(entry.start_time, datetime.fromisoformat(entry.completion_time))
        yield StageEnd(entry.name, str(entry.state), max(0.0, seconds))


def _before(old: Status, new: Status, entry: StageStatus) -> StageState | None:
    # Started over, all stages are new ones.
    if old.start_time != new.start_time:
        return None
    return next((e.state for e in old.stages if e.name == entry.name), None)


def _ran(observed: Observed, name: str | None, now: datetime) -> float | None:
    job = next((job for job in observed.jobs if job.name == name), None)
    left = observed.terminations.get(name or "", Termination())
    # A pod knows since when it ran. The Job's own time counts the wait for a node, too.
    start = left.started_at or (job.start_time if job else None)
    if start is None:
        return None
    end = job.completion_time if job and job.completion_time else to_text(now)
    return max(0.0, seconds_since(start, datetime.fromisoformat(end)))
