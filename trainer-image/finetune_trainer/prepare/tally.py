"""Rows of one split, counted as they pass: kept, dropped and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.encode import TooLong
from finetune_trainer.prepare.format import Dropped

# A reason may quote the data (a role, a template's words), and every row might have another.
REASONS = 50
OTHER = "other reasons"


@dataclass(slots=True)
class Tally:
    """Counts of rows; `split` of those that became several examples; `too_long` counts the lengths,
    in tokens, of those that do not fit.
    """

    rows: int = 0
    split: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    too_long: Counter[int] = field(default_factory=Counter)

    def drop(self, reason: Dropped) -> None:
        self._drop(str(reason), 1)
        if isinstance(reason, TooLong):
            self.too_long[reason.length] += 1

    def add(self, other: Tally) -> None:
        """Count what `other` has counted."""
        self.rows += other.rows
        self.split += other.split
        self.too_long.update(other.too_long)
        for reason, count in other.dropped.items():
            self._drop(reason, count)

    def _drop(self, reason: str, count: int) -> None:
        if reason not in self.dropped and len(self.dropped) >= REASONS:
            reason = OTHER
        self.dropped[reason] += count

    @property
    def kept(self) -> int:
        return self.rows - self.dropped.total()

    def require_some(self, use: str, field: str, sequence_length: int) -> None:
        """Refuse a split of which nothing is left.

        Args:
            use: training or validation.
            field: the data set's below spec.

        Raises:
            UserError: every row was dropped; it says why and what would help.
        """
        if self.kept:
            return
        title = f"{use} data" if field == "dataset" else f"{use} data of spec.{field}"
        if self.too_long.total() == self.rows:
            lengths = np.repeat(list(self.too_long), list(self.too_long.values()))
            raise UserError(
                f"Every row of the {title} is longer than spec.training.sequenceLength "
                f"({sequence_length} tokens): the shortest has {lengths.min()} tokens, 95 % "
                f"have at most {int(np.percentile(lengths, 95))}."
            )
        reasons = "; ".join(
            f"{count} rows: {reason}" for reason, count in self.dropped.most_common(3)
        )
        raise UserError(
            f"No row of the {title} can be used ({reasons}): correct spec.{field}.format or the "
            "data."
        )
