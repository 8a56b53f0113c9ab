"""The interface between the recipe and what is learned: from examples to a summed loss.

An objective knows how examples become batches and what their loss is. Ranks, steps and optimizers
are not its business.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.engines.engine import Engine
from finetune_trainer.train.parallel import Group

B = TypeVar("B")


class Objective(ABC, Generic[B]):
    """What is learned, from batches of a kind `B`.

    `counts` is how many sums beside the loss an evaluation makes.
    """

    counts = 0

    def begin(
        self,
        splits: Mapping[str, Examples],
        engine: Engine,
        group: Group,
        directory: Path,
    ) -> None:
        """Called once, on all ranks, while the model computes what it did as loaded.

        `splits` are `train` and, if there is one, `validation`; what the run is to find again
        belongs into `directory`. Most objectives need nothing beforehand.
        """

    def look_ahead(
        self,
        examples: Examples,
        packs: list[list[int]],
        engine: Engine,
        group: Group,
        between: Callable[[], None],
    ) -> None:
        """Called on all ranks before the passes over all `packs`, a step's or an evaluation's: what
        the loss of one example needs to know of the others, which mostly is nothing.

        What passes it makes leave no gradient; the model may be in evaluation mode afterwards. All
        ranks call `between` together before each; it may raise.
        """

    @abstractmethod
    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """The documents of every forward pass over `packs` (lists of indexes that share room)."""

    @abstractmethod
    def collate(self, examples: Examples, documents: list[int], *, supervised: bool = True) -> B:
        """The tensors of one forward pass; without `supervised` one whose loss is zero, for a rank
        that only takes part in a collective operation.
        """

    @abstractmethod
    def targets(self, examples: Examples, documents: list[int]) -> int:
        """How many predictions are trained in `documents` (indexes of `examples`)."""

    @abstractmethod
    def loss(self, batch: B) -> Tensor:
        """Summed over the targets of `batch`, a float32 scalar that gradients flow from; the recipe
        divides sums by counts of targets, once a step.
        """

    def step(self, batch: B) -> Tensor:
        """What a training pass computes: `loss`, and behind it the sums of `measure` where they
        cost nothing; float32 [1] or [1 + counts].
        """
        return self.loss(batch)[None]

    def measure(self, batch: B) -> Tensor:
        """What an evaluation's pass computes: `loss`, and behind it `counts` further sums; float32
        [1 + counts].
        """
        return self.loss(batch)[None]

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """The metrics beyond the loss, by the names of the progress protocol (without `eval_`),
        from the `counts` of passes over `targets` predictions, summed over all ranks.
        """
        return {}
