"""Progress reports: what a request's body must look like, and the latest report of each run.

Who may report is decided in bearer.py; what a report means for status, in core.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from finetune_operator.api.status import METRICS_LIMIT
from finetune_operator.core.model import Report

NAME_BYTES = 64
VALUE_BYTES = 64
LOOK_SECONDS = 1.0


class BadReport(Exception):
    """The body is not a report; the message says what must be."""


class _Strict(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, strict=True, frozen=True)


class _Metric(_Strict):
    name: str
    value: str


class _TrainerStatus(_Strict):
    progress_percentage: Annotated[int, Field(ge=0, le=100)] | None = None
    estimated_remaining_seconds: Annotated[int, Field(ge=0)] | None = None
    last_updated_time: str | None = None
    metrics: tuple[_Metric, ...] = ()


class _Body(_Strict):
    trainer_status: _TrainerStatus


def parse(body: bytes, *, job: str, now: datetime) -> Report:
    """The report in a body that a pod of `job` sent. Metrics that are too long are dropped."""
    try:
        status = _Body.model_validate_json(body).trainer_status
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "body"
        raise BadReport(f"{place}: {first['msg']}") from error
    kept = [
        metric
        for metric in status.metrics
        if len(metric.name.encode()) <= NAME_BYTES and len(metric.value.encode()) <= VALUE_BYTES
    ]
    return Report(
        job=job,
        received_at=now,
        percent=status.progress_percentage,
        eta_seconds=status.estimated_remaining_seconds,
        metrics={metric.name: metric.value for metric in kept[:METRICS_LIMIT]},
    )


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
