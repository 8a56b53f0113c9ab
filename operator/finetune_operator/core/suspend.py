"""`spec.suspend`: stop what runs, start nothing, lose nothing. Going on is a new attempt.

Suspending never fails a run and costs nothing of its budgets.
"""

from __future__ import annotations

from finetune_operator.api.status import Status
from finetune_operator.core import stages
from finetune_operator.core.conditions import Situation
from finetune_operator.vocabulary import Phase, StageState


def suspended(status: Status) -> Status:
    """The status of a run whose Jobs have been told to stop."""
    entry = stages.current(status)
    if entry is None or entry.state is not StageState.RUNNING:
        return status
    return stages.stopped(status, entry.name)


def situation(status: Status) -> Situation:
    """Where a suspended run stands."""
    entry = stages.current(status)
    point = f"before {entry.name}" if entry and entry.attempt == 0 else "before its start"
    if entry and entry.attempt > 0:
        point = f"in {entry.name}"
    return Situation(
        Phase.SUSPENDED,
        str(Phase.SUSPENDED),
        f"Suspended {point}: set spec.suspend to false to go on.",
    )
