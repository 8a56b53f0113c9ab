"""Events: what a change of status is worth telling. Derived from the two, so told once.

A stage's success and the next one's start are one event: a run's writes are counted.
"""

from __future__ import annotations

from collections.abc import Iterator

from finetune_operator.api.status import StageStatus, Status
from finetune_operator.core import stages
from finetune_operator.core.model import Event
from finetune_operator.vocabulary import (
    CONDITION_OF_STAGE,
    ConditionType,
    EventReason,
    Phase,
    StageState,
    WaitReason,
)

NORMAL, WARNING = "Normal", "Warning"

# Reasons of a run that is not at its end and that nothing stands in the way of.
_UNHINDERED = frozenset({*Phase, WaitReason.RETRYING, WaitReason.STOPPING, WaitReason.POD_STARTING})


def between(old: Status, new: Status) -> tuple[Event, ...]:
    """The events about the change from one status to the next, in the order of things."""
    return tuple(_events(old, new))


def _events(old: Status, new: Status) -> Iterator[Event]:
    ends_now = new.phase is not old.phase and new.phase in (Phase.SUCCEEDED, Phase.FAILED)
    yield from _failed_attempts(old, new, ends_now)
    start = _start(old, new)
    done = [entry for entry in new.stages if _newly(StageState.SUCCEEDED, entry, old)]
    if ends_now and new.phase is Phase.SUCCEEDED:
        done = done[:-1]  # the run's own event tells of the last stage
    for entry in done:
        text = entry.message or ""
        if start and entry is done[-1]:
            text, start = f"{text} Next: {start.message}", None
        yield Event(NORMAL, CONDITION_OF_STAGE[entry.name], text)
    if start:
        yield start
    yield from _obstacle(old, new)
    if new.phase is Phase.SUSPENDED and old.phase is not Phase.SUSPENDED:
        yield Event(NORMAL, ConditionType.SUSPENDED, new.message or "")
    if ends_now:
        failed = new.phase is Phase.FAILED
        yield Event(WARNING if failed else NORMAL, _reason(new), new.message or "")


def _failed_attempts(old: Status, new: Status, ends_now: bool) -> Iterator[Event]:
    known = {(attempt.stage, attempt.attempt) for attempt in old.attempts}
    fresh = [entry for entry in new.attempts if (entry.stage, entry.attempt) not in known]
    if ends_now and fresh and fresh[-1].reason == _reason(new):
        fresh = fresh[:-1]  # the run's own event tells of the last attempt
    for attempt in fresh:
        yield Event(WARNING, attempt.reason, attempt.message or "")


def _obstacle(old: Status, new: Status) -> Iterator[Event]:
    if new.phase in (Phase.SUCCEEDED, Phase.FAILED, Phase.SUSPENDED):
        return
    reason = _reason(new)
    if reason != _reason(old) and reason not in _UNHINDERED:
        yield Event(WARNING, reason, new.message or "")


def _start(old: Status, new: Status) -> Event | None:
    entry = stages.current(new)
    resumed = old.phase is Phase.SUSPENDED and new.phase is not Phase.SUSPENDED
    if entry is None or entry.state is not StageState.RUNNING or not _another_job(entry, old):
        return (
            Event(NORMAL, EventReason.RESUMED, new.message or "")
            if resumed and _goes_on(new)
            else None
        )
    if resumed:
        return Event(NORMAL, EventReason.RESUMED, f"{entry.name} goes on as Job {entry.job}.")
    before = _before(entry, old)
    if before is not None and before.attempt and stages.failed_attempt(new, before):
        return Event(
            NORMAL, EventReason.RETRYING, f"{entry.name} is tried again as Job {entry.job}."
        )
    return Event(NORMAL, EventReason.STARTED, f"{entry.name} runs as Job {entry.job}.")


def _goes_on(new: Status) -> bool:
    return new.phase not in (Phase.SUCCEEDED, Phase.FAILED)


def _another_job(entry: StageStatus, old: Status) -> bool:
    before = _before(entry, old)
    return before is None or (before.state, before.job) != (entry.state, entry.job)


def _newly(state: StageState, entry: StageStatus, old: Status) -> bool:
    before = _before(entry, old)
    return entry.state is state and (before is None or before.state is not state)


def _before(entry: StageStatus, old: Status) -> StageStatus | None:
    return next((before for before in old.stages if before.name == entry.name), None)


def _reason(status: Status) -> str:
    return next(
        (item.reason for item in status.conditions if item.type == ConditionType.READY),
        str(status.phase),
    )
