"""What is worth remembering of a run between two looks at it, beside the store. No logic.

Nothing here is needed for a right decision: after a restart it is read or measured again.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from finetune_operator.core.model import Event, JobState, Plan, Termination, Waiting

Json = dict[str, Any]


@dataclass(slots=True)
class Look:
    """What was found in the pods of a Job that is long in starting or stopping."""

    begun: float
    at: float | None = None
    found: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Untold:
    """A write of status that was answered with a conflict, and the events that tell of it.

    Perhaps it was made: the answer to it may have been lost, and the conflict is with itself.
    """

    status: Json
    events: tuple[Event, ...]


@dataclass(slots=True)
class Memory:
    """Of one run, by its uid. Times are of the event loop's clock."""

    plans: dict[str, Plan] = field(default_factory=dict)  # by hash
    terminations: dict[str, Termination] = field(default_factory=dict)  # by uid of the Job
    looks: dict[tuple[str, JobState], Look] = field(default_factory=dict)  # by uid of the Job
    stopped: set[str] = field(default_factory=set)  # names of Jobs that we have deleted
    failing_since: float | None = None  # the first of the calls that have failed in a row
    written_at: float | None = None
    untold: Untold | None = None


class Memories:
    """The memory of every run that was looked at."""

    def __init__(self) -> None:
        self._of: dict[str, Memory] = {}

    def of(self, uid: str) -> Memory:
        return self._of.setdefault(uid, Memory())

    def keep_only(self, uids: set[str]) -> None:
        """Forget the runs that are gone."""
        for uid in self._of.keys() - uids:
            del self._of[uid]
