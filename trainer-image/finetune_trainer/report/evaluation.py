"""What was measured on held-out data, of the base beside the tuned model, worded for a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.publish.numbers import number
from finetune_trainer.publish.task import LOSS, measured
from finetune_trainer.report.words import significant
from finetune_trainer.run import Task


@dataclass(frozen=True, slots=True)
class Row:
    """A metric; `base` and `change` are empty where the base has no such number."""

    name: str
    base: str
    tuned: str
    change: str


def evaluation(task: Task, train: Mapping[str, Any]) -> list[Row]:
    """The rows, the loss first; none if nothing was held out."""
    rows = []
    for metric, tuned in measured(task, train):
        # Without its new head the base can tell nothing, and a reference is as good as itself.
        comparable = task is Task.GENERATION or metric is LOSS
        base = number(train, f"baseValidation{metric.key}") if comparable else None
        rows.append(_row(metric.heading, base, tuned))
        if metric is LOSS and task is Task.GENERATION and tuned < 20:
            known = base is not None and base < 20
            rows.append(_row("Perplexity", math.exp(base or 0) if known else None, math.exp(tuned)))
    return rows


def _row(name: str, base: float | None, tuned: float) -> Row:
    if base is None:
        return Row(name, "", significant(tuned), "")
    difference = tuned - base
    sign = "\N{MINUS SIGN}" if difference < 0 else "+"
    share = f" ({difference / base:+.0%})".replace("-", "\N{MINUS SIGN}") if base > 0 else ""
    change = f"{sign}{significant(abs(difference))}{share}"
    return Row(name, significant(base), significant(tuned), change)
