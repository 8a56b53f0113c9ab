"""The loss over the steps, read from what the trainer logs: lines → points. Pure.

A line is `step 12/200  loss 1.93  validation loss 2.01  lr 1.9e-04  …` (the trainer's journal).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

_STEP = re.compile(r"^step (\d+)/\d+ ")
_LOSS = re.compile(r" {2}loss (\S+)")
_VALIDATION = re.compile(r" {2}validation loss (\S+)(?! \(base\))(?: |$)")


@dataclass(slots=True)
class History:
    """Loss and validation loss by step. A step that was trained twice counts as the last time:
    attempts go on from a checkpoint.
    """

    loss: dict[int, float] = field(default_factory=dict)
    validation: dict[int, float] = field(default_factory=dict)

    def read(self, lines: Iterable[str]) -> None:
        """Add what the lines of a log say."""
        for line in lines:
            if found := _STEP.match(line):
                step = int(found.group(1))
                self._add(self.loss, step, _LOSS.search(line))
                self._add(self.validation, step, _VALIDATION.search(line))

    def add(self, step: int | None, loss: str | None) -> None:
        """Add what the status says."""
        if step is not None and loss is not None and (value := _number(loss)) is not None:
            self.loss[step] = value

    @staticmethod
    def _add(points: dict[int, float], step: int, found: re.Match[str] | None) -> None:
        if found and (value := _number(found.group(1))) is not None:
            points[step] = value

    @property
    def is_empty(self) -> bool:
        return len(self.loss) < 2


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None
