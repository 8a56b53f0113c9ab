"""The stages over time: one row a stage, one bar an attempt."""

from __future__ import annotations

from collections.abc import Sequence

from finetune_trainer.duration import duration
from finetune_trainer.report.figure import Bar, Drawing, Line, Mark, Scale, Words
from finetune_trainer.report.words import outcome_words
from finetune_trainer.stage_log import Attempt

ROW, TOP, LEFT, RIGHT = 30.0, 8.0, 66.0, 62.0
# Round spans of time in seconds, from which an axis takes its steps.
STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400, 28800, 43200, 86400)
FAILED = frozenset({"UserError", "Retryable", "OutOfMemory", "NonFiniteLoss"})


def timeline(attempts: Sequence[Attempt], *, width: float, title: str) -> Drawing | None:
    """Bars from the first attempt's beginning on; None if no time is known."""
    if not attempts:
        return None
    begin = min(each.began for each in attempts)
    ends = [max(each.began, each.ended or 0) for each in attempts]
    span = max(max(ends) - begin, 1.0)
    stages = list(dict.fromkeys(each.stage for each in attempts))
    bottom = TOP + ROW * len(stages)
    across = Scale(0, span, LEFT, width - RIGHT)
    marks: list[Mark] = []
    step = _step(span, max(2, int((width - LEFT - RIGHT) // 90)))
    for index in range(int(span / step) + 1):
        x = across(index * step)
        marks.append(Line([(x, TOP), (x, bottom)], "grid"))
        marks.append(Words(x, bottom + 16, duration(index * step), "label", "middle"))
    for row, stage in enumerate(stages):
        y = TOP + ROW * row
        marks.append(Words(0, y + 20, stage, "value"))
        mine = [
            (each, end) for each, end in zip(attempts, ends, strict=True) if each.stage == stage
        ]
        for each, end in mine:
            x = across(each.began - begin)
            wide = max(2.0, across(end - begin) - x)
            took = duration(end - each.began)
            hint = f"{stage}, attempt {each.number}: {outcome_words(each.outcome)} after {took}"
            marks.append(Bar(x, y + 8, max(1.5, wide - 0.5), 15, _role(each), hint))
        total = sum(end - each.began for each, end in mine)
        x = across(max(end for _, end in mine) - begin)
        marks.append(Words(x + 7, y + 20, duration(total), "value"))
    return Drawing(width, bottom + 24, title, marks)


def _step(span: float, most: int) -> float:
    return next((float(step) for step in STEPS if span / step <= most), 86400.0 * _ceil(span, most))


def _ceil(span: float, most: int) -> int:
    return int(span // (86400 * most)) + 1


def _role(attempt: Attempt) -> str:
    if attempt.outcome == "Succeeded":
        return "done"
    return "failed" if attempt.outcome in FAILED else "stopped"
