"""What the losses of task Preference have in common: log-probabilities of whole answers, of the
model and of its base.

What a loss makes of them belongs to the objectives.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example
from finetune_trainer.run import Preference as Settings
from finetune_trainer.train.batches import (
    Batch,
    collate,
    micro_batches,
    sharing_batches,
    supervised_targets,
)
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.speed.head import Head
from finetune_trainer.train.speed.probabilities import target_log_probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerBatch(Batch):
    """The documents of n answers; `owners` [targets] say to which of them a target belongs,
    `counts` [n] how many each has. n is 0 for a pass whose loss is zero.
    """

    owners: Tensor
    counts: Tensor

    @property
    def members(self) -> dict[str, Any]:
        """Its values by name, for a batch that has more."""
        return {each.name: getattr(self, each.name) for each in fields(AnswerBatch)}


class AnswerModel:
    """A causal model as a function from answers to their log-probabilities.

    Without its `adapter` the model is the base.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        abilities: Abilities,
        settings: Settings,
        *,
        adapter: PeftModel | None,
        autocast: torch.dtype | None,
    ) -> None:
        self.model = model
        self.head = Head(model, abilities.separable_head, abilities.plain_head)
        self.settings = settings
        self.adapter = adapter
        self.autocast = autocast

    def log_probabilities(self, batch: AnswerBatch) -> Tensor:
        """log p of every document's supervised tokens together, [n]."""
        device = batch.input_ids.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            each = target_log_probabilities(self.head, batch)
        return each.new_zeros(len(batch.counts)).index_add(0, batch.owners, each)

    def base_log_probabilities(self, batch: AnswerBatch) -> Tensor:
        """The same of the base, without gradients and without dropout."""
        assert self.adapter is not None, "full training remembers its reference"
        with torch.no_grad(), self.adapter.disable_adapter(), _evaluating(self.model):
            return self.log_probabilities(batch)


@dataclass(frozen=True, slots=True)
class Rows:
    """How answers lie in forward passes of at most `capacity` token positions: padded, in one row,
    or in one row that has common beginnings once.
    """

    capacity: int
    padded: bool
    shared: bool
    device: torch.device

    @classmethod
    def of(cls, abilities: Abilities, capacity: int, device: torch.device) -> Rows:
        """As the model can have them."""
        return cls(capacity, not abilities.shared_rows, abilities.shared_prefixes, device)

    def batches(
        self, packs: list[list[int]], unit_of: Callable[[int], list[Example]]
    ) -> list[list[int]]:
        """See `micro_batches` and `sharing_batches`. The documents of a unit, together no larger
        than a pass, are never torn apart.
        """
        if self.shared:
            return sharing_batches(
                packs,
                lambda index: [answer.tokens for answer in unit_of(index)],
                capacity=self.capacity,
            )
        indexes = [index for pack in packs for index in pack]
        sizes = [[len(answer.tokens) for answer in unit_of(index)] for index in indexes]
        most = max(map(len, sizes), default=0)
        lengths = np.array(
            [most * max(each) if self.padded else sum(each) for each in sizes], dtype=np.int64
        )
        places = iter(range(len(indexes)))
        cut = micro_batches(
            [[next(places) for _ in pack] for pack in packs],
            lengths,
            capacity=self.capacity,
            padded=self.padded,
        )
        return [[indexes[place] for place in batch] for batch in cut]

    def collate(self, answers: list[Example], *, supervised: bool = True) -> AnswerBatch:
        """See `batches.collate`."""
        batch = collate(
            answers,
            padded=self.padded,
            device=self.device,
            shared=self.shared,
            supervised=supervised,
        )
        counts = [len(supervised_targets(answer)) for answer in answers] if supervised else []
        return AnswerBatch(
            **{each.name: getattr(batch, each.name) for each in fields(batch)},
            owners=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(self.device),
            counts=torch.tensor(counts, dtype=torch.int64, device=self.device),
        )


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
