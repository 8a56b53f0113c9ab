"""The interface between the recipe and what is learned: from examples to a summed loss.

An objective knows how examples become batches and what their loss is. Ranks, steps and optimizers
are not its business.
"""

from __future__ import annotations

from typing import Protocol

from torch import nn

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.batches import Batch


class Objective(Protocol):
    """What is learned.

    `module` maps a batch to its loss, summed over the batch's targets, a float32 scalar that
    gradients flow from; the recipe divides sums by counts of targets, once a step. With the model
    in evaluation mode an objective that has `counts` of further sums gives [1 + counts], the loss
    first.
    """

    module: nn.Module
    counts: int

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """How many predictions are trained in `documents` (indexes of `examples`)."""
        ...

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """The metrics beyond the loss, by the names of the progress protocol (without `eval_`),
        from the `counts` of an evaluation over `targets` predictions, summed over all ranks.
        """
        ...

    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """The documents of every forward pass over `packs` (lists of indexes that share room)."""
        ...

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> Batch:
        """The tensors of one forward pass; without `supervised` one whose loss is zero, for a rank
        that only takes part in a collective operation.
        """
        ...
