"""May a stage be tried again, and when? Budgets by kind of failure, since the last rerun.

What goes on in spite of failures is no endless loop: progress renews the budget, except for memory.

What kind of failure it was is decided in failure.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from finetune_operator.api.status import Attempt, StageStatus
from finetune_operator.core.model import Refusal
from finetune_operator.core.moments import seconds_since
from finetune_operator.core.naming import ATTEMPT_LIMIT
from finetune_operator.vocabulary import FailureReason, RefusalReason

# The same input fails again, and what has been paid for must not be paid twice.
NEVER_AGAIN = frozenset({FailureReason.USER_ERROR, FailureReason.NON_FINITE_LOSS})
# Somebody else's doing, and as often as they like: nothing of the run has failed.
NOT_COUNTED = frozenset({FailureReason.PREEMPTED, FailureReason.DISRUPTED})

# Attempts in all, the first included. A broken node or Hub is worth two more; memory that did not
# suffice once may have been a neighbour's fault, twice it is the run's own.
ATTEMPTS = 3
ATTEMPTS_OUT_OF_MEMORY = 2

# Long enough for a node to be drained or a Hub to recover, short against any training.
FIRST_PAUSE = 10.0
PAUSE_FACTOR = 4.0
LONGEST_PAUSE = 300.0


def advanced(attempt: Attempt, former: Sequence[Attempt]) -> bool:
    """Whether training has come further than in the attempt that failed before this one."""
    before = next((old for old in reversed(former) if old.stage is attempt.stage), None)
    if before is None or attempt.step is None:
        return False
    return before.step is None or attempt.step > before.step


def counted(entry: StageStatus, reason: FailureReason, *, advanced: bool) -> dict[str, Any]:
    """What this failure changes in the stage's counters."""
    if reason is FailureReason.OUT_OF_MEMORY:
        return {"out_of_memory": entry.out_of_memory + 1}
    if reason in NOT_COUNTED:
        return {}
    return {"failures": 1 if advanced else entry.failures + 1}


def may_retry(entry: StageStatus, reason: FailureReason) -> bool:
    """Whether a stage with these counters is tried again after its latest attempt."""
    return (
        reason not in NEVER_AGAIN
        and entry.failures < ATTEMPTS
        and entry.out_of_memory < ATTEMPTS_OUT_OF_MEMORY
        and entry.attempt < ATTEMPT_LIMIT
    )


def used_up(entry: StageStatus) -> Refusal:
    """Why there is no further attempt at all, not even for a new rerun token."""
    return Refusal(
        RefusalReason.ATTEMPTS_USED_UP,
        f"{entry.name} has had {entry.attempt} attempts, and names of Jobs go no further: create a "
        "FineTuneJob with a new name.",
        final=True,
    )


def seconds_until_due(entry: StageStatus, latest: Attempt | None, now: datetime) -> float:
    """How long the next attempt has yet to wait; `latest` is the one that failed, if one did."""
    if latest is None or latest.finished_at is None:
        return 0.0
    return max(0.0, _pause(entry, latest) - seconds_since(latest.finished_at, now))


def _pause(entry: StageStatus, latest: Attempt) -> float:
    failures = entry.failures + entry.out_of_memory
    if latest.reason in NOT_COUNTED:
        return FIRST_PAUSE
    if failures == 0:
        return 0.0  # the rerun that reset the counters was asked for by a person: no reason to wait
    return min(LONGEST_PAUSE, FIRST_PAUSE * PAUSE_FACTOR ** (failures - 1))
