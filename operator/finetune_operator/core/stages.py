"""`status.stages[]`: finding and replacing an entry. What an entry becomes is decided elsewhere."""

from __future__ import annotations

from typing import Any

from finetune_operator.api.status import Attempt, StageStatus, Status
from finetune_operator.vocabulary import Stage, StageState


def entry_of(status: Status, stage: Stage) -> StageStatus:
    """The stage's entry; the stage is one of this run's."""
    return next(entry for entry in status.stages if entry.name == stage)


def current(status: Status) -> StageStatus | None:
    """The stage that the run is in: the first that has not succeeded."""
    unfinished = (entry for entry in status.stages if entry.state is not StageState.SUCCEEDED)
    return next(unfinished, None)


def changed(status: Status, stage: Stage, **changes: Any) -> Status:
    """The status with another entry for this stage."""
    entries = [
        entry.model_copy(update=changes) if entry.name == stage else entry
        for entry in status.stages
    ]
    return status.model_copy(update={"stages": entries})


def stopped(status: Status, stage: Stage) -> Status:
    """The status with this stage waiting for its next attempt, the last one having been stopped."""
    return changed(status, stage, state=StageState.PENDING, message=None)


def failed_attempt(status: Status, entry: StageStatus) -> Attempt | None:
    """The record of the entry's latest attempt, if that failed."""
    for attempt in reversed(status.attempts):
        if (attempt.stage, attempt.attempt) == (entry.name, entry.attempt):
            return attempt
    return None
