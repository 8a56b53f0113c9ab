"""What the steps since the last log line have shown, all together."""

from __future__ import annotations

from typing import Any

from finetune_trainer.train.objectives.objective import Objective


class Window:
    """Sums over steps, as `objective` makes them (see `Objective.step`)."""

    def __init__(self, objective: Objective[Any]) -> None:
        self._objective = objective
        self._steps: list[list[float]] = []
        self._targets = 0

    def add(self, sums: list[float], targets: int) -> None:
        """One more step: sums of all ranks, over so many targets."""
        self._steps.append(sums)
        self._targets += targets

    def take(self) -> tuple[dict[str, float], dict[str, float]]:
        """The mean `loss` per target, and the objective's metrics where its steps have them, by the
        names of the progress protocol; both empty without a step. From here on there is none.
        """
        if not self._steps:
            return {}, {}
        targets = max(1, self._targets)
        loss, *counts = (sum(each) for each in zip(*self._steps, strict=True))
        self._steps.clear()
        self._targets = 0
        return {"loss": loss / targets}, self._objective.metrics(counts, targets) if counts else {}
