"""Learning which of two answers is preferred: DPO, ORPO and SimPO over documents in one row.

An example is a pair: the tokens of the preferred document, then those of the rejected one; its only
label is how many tokens the first has. So a pair is never torn, and packing, order and resume are
those of any example.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.run import Preference as Settings
from finetune_trainer.train.batches import (
    Batch,
    collate,
    micro_batches,
    sharing_batches,
    supervised_targets,
)
from finetune_trainer.train.engines.engine import Engine
from finetune_trainer.train.objectives.preference_losses import Judged, Pair, dpo, orpo, simpo
from finetune_trainer.train.objectives.reference import Reference
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.probe import Abilities
from finetune_trainer.train.speed.probabilities import target_log_probabilities


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch(Batch):
    """The documents of n pairs, the preferred one first.

    `owners` [targets] say to which document a target belongs, `counts` [2n] how many each has; n is
    0 for a pass whose loss is zero. `reference` [2n] are the base's summed log-probabilities, None
    where they are computed on the way or not needed.
    """

    owners: Tensor
    counts: Tensor
    reference: Tensor | None


class PreferenceLoss(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal model as a function from pairs to their summed loss.

    `adapter` is switched off for the reference, if the reference is not in the batch.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        settings: Settings,
        *,
        adapter: PeftModel | None,
        separable_head: bool,
        autocast: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.model = model
        self.adapter = adapter
        self.separable_head = separable_head
        self.autocast = autocast
        self.settings = settings

    def forward(self, batch: PairBatch) -> Tensor:
        """The sum over the pairs of their loss, a float32 scalar."""
        return self.judge(batch).losses.sum()

    def judge(self, batch: PairBatch) -> Judged:
        """Loss and rewards of every pair."""
        # The reference first, so that its memory is free again for what keeps its activations.
        reference = self._reference(batch)
        policy = self.log_probabilities(batch)
        settings = self.settings
        match settings.loss:
            case "DPO":
                assert reference is not None
                return dpo(_pair(policy), _pair(reference), beta=settings.beta)
            case "SimPO":
                means = _pair(policy / batch.counts)
                return simpo(means, beta=settings.beta, gamma=settings.gamma)
            case "ORPO":
                return orpo(_pair(policy / batch.counts), beta=settings.beta)

    def log_probabilities(self, batch: PairBatch) -> Tensor:
        """log p of every document's supervised tokens together, [2n]."""
        device = batch.input_ids.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            each = target_log_probabilities(self.model, batch, separable_head=self.separable_head)
        return each.new_zeros(len(batch.counts)).index_add(0, batch.owners, each)

    def _reference(self, batch: PairBatch) -> Tensor | None:
        if not needs_reference(self.settings) or batch.reference is not None:
            return batch.reference
        assert self.adapter is not None, "full training remembers its reference"
        with torch.no_grad(), self.adapter.disable_adapter(), _evaluating(self.model):
            return self.log_probabilities(batch)


class Preference:
    """One of the losses of `preference_losses.py`, summed over pairs.

    The reference of a split is computed once, before the first step, if `remember` names the split:
    cheaper where a pair is seen more than once, and the only way without an adapter. Else every
    pass computes it with the `adapter` switched off.
    """

    counts = 2

    def __init__(
        self,
        model: PreTrainedModel,
        abilities: Abilities,
        settings: Settings,
        *,
        capacity: int,
        autocast: torch.dtype | None,
        device: torch.device,
        adapter: PeftModel | None,
        remember: frozenset[str],
    ) -> None:
        self.module = PreferenceLoss(
            model,
            settings,
            adapter=adapter,
            separable_head=abilities.separable_head,
            autocast=autocast,
        )
        self._remember = remember if needs_reference(settings) else frozenset()
        self._capacity = capacity
        self._padded = not abilities.shared_rows
        self._shared = abilities.shared_prefixes
        self._device = device
        self._references: dict[Examples, Reference] = {}

    def begin(
        self,
        splits: Mapping[str, Examples],
        engine: Engine,
        group: Group,
        directory: Path,
    ) -> None:
        """Remember the reference of `splits`, in `directory`."""
        self.module.model.eval()
        for name in sorted(self._remember & splits.keys()):
            examples = splits[name]

            def score(documents: list[int], examples: Examples = examples) -> Tensor:
                batch = self.collate(examples, documents)
                return engine.evaluate(self.module.log_probabilities, batch)

            batches = self.batches(examples, [[index] for index in range(len(examples))])
            path = directory / f"reference-{name}.npy"
            self._references[examples] = Reference.of(examples, batches, score, group, path)

    def measure(self, batch: PairBatch) -> Tensor:
        """The loss; how many preferred answers have the higher reward; the sum of what they have
        more: [3].
        """
        losses, rewards = self.module.judge(batch)
        margins = rewards.chosen - rewards.rejected
        return torch.stack([losses.sum(), (margins > 0).sum().to(losses), margins.sum()])

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """How often the preferred answer has the higher reward, and how much higher on average."""
        correct, margin = counts
        return {"reward_accuracy": correct / targets, "reward_margin": margin / targets}

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Pairs."""
        return len(documents)

    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """See `micro_batches` and `sharing_batches`; a pair is never torn."""
        if self._shared:
            return sharing_batches(
                packs,
                lambda index: [answer.tokens for answer in answers_of(examples[index])],
                capacity=self._capacity,
            )
        lengths = examples.lengths
        if self._padded:
            chosen = examples.first_labels
            lengths = 2 * np.maximum(chosen, lengths - chosen)
        return micro_batches(packs, lengths, capacity=self._capacity, padded=self._padded)

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> PairBatch:
        """See `batches.collate`."""
        answers = [answer for index in documents for answer in answers_of(examples[index])]
        batch = collate(
            answers,
            padded=self._padded,
            device=self._device,
            shared=self._shared,
            supervised=supervised,
        )
        counts = [len(supervised_targets(answer)) for answer in answers] if supervised else []
        known = self._references.get(examples)
        reference = None
        if known is not None:
            reference = torch.from_numpy(known.values[documents if supervised else []].ravel())
            reference = reference.to(self._device)
        return PairBatch(
            **{each.name: getattr(batch, each.name) for each in fields(batch)},
            owners=torch.from_numpy(np.repeat(np.arange(len(counts)), counts)).to(self._device),
            counts=torch.tensor(counts, dtype=torch.int64, device=self._device),
            reference=reference,
        )


def needs_reference(settings: Settings) -> bool:
    """Whether the loss compares with the base model."""
    return settings.loss == "DPO"


def answers_of(pair: Example) -> tuple[Example, Example]:
    """The preferred document and the rejected one."""
    length = int(pair.labels[0])
    return (
        Example(pair.tokens[:length], pair.supervised[:length]),
        Example(pair.tokens[length:], pair.supervised[length:]),
    )


def _pair(values: Tensor) -> Pair:
    return Pair(chosen=values[0::2], rejected=values[1::2])


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
