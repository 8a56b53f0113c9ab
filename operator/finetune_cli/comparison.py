"""Several runs side by side: in which settings they differ, and what came of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from finetune_cli.preview import flat
from finetune_cli.view import Run, dig
from finetune_cli.words import between, number

ABSENT = "-"
# Not what a run is, only how it stands or is kept going.
_OPERATIONAL = ("suspend", "rerunToken", "runPolicy", "scheduling")
_RESULTS = {
    "loss": "metrics.loss",
    "validationLoss": "metrics.validationLoss",
    "baseValidationLoss": "metrics.baseValidationLoss",
    "tokensPerSecond": "progress.tokensPerSecond",
}
_FACTS = {
    "steps": "progress.display.step",
    "memory": "memory.measured",
    "learningRate": "resolved.learningRate",
    "strategy": "resolved.strategy",
    "modelCommit": "resolved.modelCommit",
    "dataCommit": "resolved.datasetCommit",
    "commit": "artifacts.commit",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One setting or result, a value for each run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


def settings(runs: Sequence[Run]) -> list[Row]:
    """Every setting that a run has, in the order of the first run's spec."""
    columns = [dict(flat(dict(dig(run.raw, "spec", {})))) for run in runs]
    paths = dict.fromkeys(path for column in columns for path in column)
    return [
        Row(path, tuple(column.get(path, ABSENT) or "{}" for column in columns))
        for path in paths
        if path.split(".")[0] not in _OPERATIONAL
    ]


def results(runs: Sequence[Run]) -> list[Row]:
    """Phase, time, losses, other measured values and what was made."""
    others = {
        name: f"metrics.{name}"
        for run in runs
        for name in run.metrics
        if name.startswith("validation") and name not in _RESULTS
    }
    rows = [
        Row("phase", tuple(run.phase for run in runs)),
        Row("took", tuple(between(run.started, run.ended) for run in runs)),
        *(_row(name, path, runs) for name, path in {**_RESULTS, **others}.items()),
        *(Row(n, tuple(str(dig(r.status, p, ABSENT)) for r in runs)) for n, p in _FACTS.items()),
        Row("failedAttempts", tuple(str(len(run.status.get("attempts", []))) for run in runs)),
    ]
    return [row for row in rows if set(row.values) != {ABSENT}]


def best(row: Row) -> int | None:
    """Which run has the lowest loss; None where lower is not better or nothing is known."""
    if row.name not in ("loss", "validationLoss") or not row.differs:
        return None
    known = [(_value(shown), index) for index, shown in enumerate(row.values)]
    finite = [pair for pair in known if math.isfinite(pair[0])]
    return min(finite)[1] if len(finite) > 1 else None


def _value(shown: str) -> float:
    """The number that is shown; NaN for what is none, as any image may report anything."""
    try:
        return float(shown.replace(",", ""))
    except ValueError:
        return math.nan


def _row(name: str, path: str, runs: Sequence[Run]) -> Row:
    return Row(name, tuple(number(dig(run.status, path)) for run in runs))
