"""Next-token prediction on the supervised tokens of documents."""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.batches import (
    Batch,
    collate,
    count_targets,
    micro_batches,
    sharing_batches,
)
from finetune_trainer.train.custom_loss import TokenLoss
from finetune_trainer.train.objectives.objective import Objective
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.speed.loss import SummedLoss


class Generation(Objective[Batch]):
    """Cross-entropy of every supervised token given those before it in its document.

    `capacity` is the most token positions of a forward pass; `autocast` the format of matrix
    products where it is not the parameters' own. `virtual_tokens` stand before every document,
    which is then alone in its row. `trained_by` takes the place of cross-entropy in training, and
    leaves evaluations as they are.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        abilities: Abilities,
        *,
        capacity: int,
        autocast: torch.dtype | None,
        device: torch.device,
        virtual_tokens: int = 0,
        trained_by: TokenLoss | None = None,
    ) -> None:
        self._loss = SummedLoss(
            model,
            separable_head=abilities.separable_head,
            plain_head=abilities.plain_head,
            autocast=autocast,
            trained_by=trained_by,
        )
        self._capacity = capacity + virtual_tokens
        self._virtual_tokens = virtual_tokens
        self._padded = not abilities.shared_rows
        self._shared = abilities.shared_prefixes
        self._device = device

    def loss(self, batch: Batch) -> Tensor:
        """See `SummedLoss`."""
        found: Tensor = self._loss(batch)
        return found

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Supervised tokens of `documents`, first tokens apart: nothing precedes them."""
        return count_targets(examples, documents)

    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """See `micro_batches` and `sharing_batches`."""
        if self._shared:
            return sharing_batches(
                packs, lambda index: [examples[index].tokens], capacity=self._capacity
            )
        lengths = examples.lengths
        if self._virtual_tokens:
            lengths = lengths + self._virtual_tokens
        return micro_batches(packs, lengths, capacity=self._capacity, padded=self._padded)

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> Batch:
        """See `batches.collate`."""
        return collate(
            [examples[index] for index in documents],
            padded=self._padded,
            device=self._device,
            shared=self._shared,
            supervised=supervised,
        )
