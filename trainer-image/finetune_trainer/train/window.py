"""What the steps since the last log line have shown, all together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.train.objectives.objective import Objective


@dataclass(slots=True)
class Window:
    """`sums` over steps, as the objective makes them (see `Objective.step`), and their `targets`;
    both empty without a step. A checkpoint holds it: what is told after a resume is the mean over
    the steps before it, too.
    """

    sums: list[float] = field(default_factory=list)
    targets: int = 0

    def add(self, sums: list[float], targets: int) -> None:
        """One more step: sums of all ranks, over so many targets."""
        before = self.sums or [0.0] * len(sums)
        self.sums = [one + other for one, other in zip(before, sums, strict=True)]
        self.targets += targets

    def take(self, objective: Objective[Any]) -> tuple[dict[str, float], dict[str, float]]:
        """The mean `loss` per target, and the objective's metrics where its steps have them, by the
        names of the progress protocol; both empty without a step. From here on there is none.
        """
        if not self.sums:
            return {}, {}
        targets = max(1, self.targets)
        loss, *counts = self.sums
        self.sums, self.targets = [], 0
        return {"loss": loss / targets}, objective.metrics(counts, targets) if counts else {}
