"""Progress reports → `status.progress` and `status.metrics`. How often that is written is not here.

The protocol's own client has faults that are made good here: its time left is wrong after a
resume, and its numbers may be anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic.alias_generators import to_camel

from finetune_operator.api.status import METRICS_LIMIT, Progress, ProgressDisplay, Status
from finetune_operator.core.model import JobRecord, Report
from finetune_operator.core.moments import seconds_since, to_text
from finetune_operator.core.text import metric, whole

# Names of the protocol that go into `progress`, not into `metrics`.
_PROGRESS = frozenset(
    {"current_step", "total_steps", "checkpoint_step", "current_epoch", "tokens_per_second"}
)
# What the protocol's own client calls measured on held-out data, and what status calls it.
_PREFIXES = {"eval_": "validation_", "base_eval_": "base_validation_"}
# How much of the former estimate stays when a new pace was measured: single steps differ.
INERTIA = 0.5


def applied(status: Status, report: Report | None, job: JobRecord) -> Status:
    """The status with the latest report of this Job's pods."""
    return _applied(status, report, job.name, job.start_time)


def of_stopped(status: Status, report: Report | None, job: str) -> Status:
    """The status with the last report of this Job's pods, which may be gone by now."""
    return _applied(status, report, job, None)


def _applied(status: Status, report: Report | None, job: str, started: str | None) -> Status:
    if report is None or report.job != job:
        return status
    at = to_text(report.received_at)
    old = status.progress
    if old is not None and old.at is not None and old.at >= at:
        return status
    return status.model_copy(
        update={"progress": _progress(old, report, started), "metrics": _metrics(status, report)}
    )


def merged_metrics(new: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """As many metrics as status may hold: the new ones first, for the former are older news.

    A metric that comes rarely, as the validation loss does, stays until it comes again.
    """
    kept = {name: value for name, value in known.items() if name not in new}
    return dict([*new.items(), *kept.items()][:METRICS_LIMIT])


def _progress(old: Progress | None, report: Report, started: str | None) -> Progress:
    step = whole(report.metrics.get("current_step"))
    total = whole(report.metrics.get("total_steps"))
    percent = report.percent
    if percent is None and step is not None and total:
        percent = 100 * step // total
    if percent is not None:
        percent = min(100, max(0, percent))
    return Progress(
        percent=percent,
        step=step,
        total_steps=total,
        checkpoint_step=whole(report.metrics.get("checkpoint_step")),
        epoch=_optional(report.metrics.get("current_epoch")),
        tokens_per_second=_optional(report.metrics.get("tokens_per_second")),
        eta_seconds=_seconds_left(old, report, started, step, total),
        at=to_text(report.received_at),
        display=ProgressDisplay(
            percent=None if percent is None else f"{percent}%",
            step=None if step is None else f"{step}/{total}" if total else str(step),
        ),
    )


def _seconds_left(
    old: Progress | None, report: Report, started: str | None, step: int | None, total: int | None
) -> int | None:
    told = whole(report.eta_seconds)
    if old is None or old.at is None or old.step is None or step is None or total is None:
        return told
    if step <= old.step or step > total:
        return told
    if started is not None and old.at < started:  # of an earlier attempt
        return told
    passed = seconds_since(old.at, report.received_at)
    measured = (total - step) * passed / (step - old.step)
    if old.eta_seconds is None:
        return whole(measured)
    expected = max(0.0, old.eta_seconds - passed)
    return whole(INERTIA * expected + (1 - INERTIA) * measured)


def _metrics(status: Status, report: Report) -> dict[str, str]:
    found = {
        metric(to_camel(_renamed(name))): metric(value)
        for name, value in report.metrics.items()
        if name not in _PROGRESS
    }
    return merged_metrics(found, status.metrics)


def _renamed(name: str) -> str:
    for prefix, ours in _PREFIXES.items():
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name


def _optional(value: Any) -> str | None:
    return None if value is None else metric(value)
