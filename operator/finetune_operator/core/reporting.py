"""What a stage says by the contract: progress reports, and its termination message.

Who may report, and over what it comes, is the runtime's.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from finetune_operator.api.status import METRICS_LIMIT
from finetune_operator.core.model import Report

NAME_BYTES = 64
VALUE_BYTES = 64


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


def termination_document(message: str | bytes) -> dict[str, Any]:
    """The JSON object that a termination message is; an empty one if it is anything else."""
    try:
        document = json.loads(message)
    except (ValueError, RecursionError):
        return {}
    return document if isinstance(document, dict) else {}
