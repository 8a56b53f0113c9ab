"""The latest progress report of each run, and when to look at the run for it.

What a report is stands in core/reporting.py; who may report is decided in bearer.py.
"""

from __future__ import annotations

from finetune_operator.core.model import Report

LOOK_SECONDS = 1.0


class Reports:
    """The latest report by uid of the FineTuneJob; lost with the process, the next is near."""

    def __init__(self) -> None:
        self._latest: dict[str, Report] = {}
        self._due: dict[str, float] = {}  # the last look at the run, or the next

    def put(self, uid: str, report: Report, now: float) -> float:
        """Keep it as the latest; in how many seconds its run is to be looked at.

        However fast reports come, a run is looked at once a second for them, with the latest.
        """
        self._latest[uid] = report
        due = self._due.get(uid)
        if due is None or due < now:
            due = now if due is None else max(now, due + LOOK_SECONDS)
            self._due[uid] = due
        return due - now

    def get(self, uid: str) -> Report | None:
        return self._latest.get(uid)

    def keep_only(self, uids: set[str]) -> None:
        """Forget the runs that are gone."""
        for uid in self._latest.keys() - uids:
            del self._latest[uid]
            del self._due[uid]
