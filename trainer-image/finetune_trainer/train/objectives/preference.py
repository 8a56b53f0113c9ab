"""Learning which of two answers is preferred: DPO, ORPO and SimPO over documents in one row.

An example is a pair (see `data.answers`), which is never torn, so packing, order and resume are
those of any example.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Examples
from finetune_trainer.run import Preference as Settings
from finetune_trainer.train.engines.engine import Engine
from finetune_trainer.train.objectives.answers import AnswerBatch, AnswerModel, Rows
from finetune_trainer.train.objectives.preference_losses import Judged, Pair, dpo, orpo, simpo
from finetune_trainer.train.objectives.reference import Reference, Values
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.probe import Abilities


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch(AnswerBatch):
    """The documents of n pairs, the preferred one first.

    `reference` [2n] are the base's summed log-probabilities, None where they are computed on the
    way or not needed.
    """

    reference: Tensor | None


class PreferenceLoss(AnswerModel):
    """A causal model as a function from pairs to their summed loss."""

    def forward(self, batch: PairBatch) -> Tensor:
        """The sum over the pairs of their loss, a float32 scalar."""
        return self.judge(batch).losses.sum()

    def judge(self, batch: PairBatch) -> Judged:
        """Loss and rewards of every pair."""
        # The reference first, so that its memory is free again for what keeps its activations.
        reference = batch.reference
        if reference is None and needs_reference(self.settings):
            reference = self.base_log_probabilities(batch)
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
            case "KTO":
                raise ValueError("KTO is an objective of its own")


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
        self._rows = Rows.of(abilities, capacity, device)
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

            def score(documents: list[int], examples: Examples = examples) -> Values:
                batch = self.collate(examples, documents)
                found = engine.evaluate(self.module.log_probabilities, batch)
                values: Values = found.float().cpu().numpy().reshape(-1, 2)
                return values

            batches = self.batches(examples, [[index] for index in range(len(examples))])
            path = directory / f"reference-{name}.npy"
            self._references[examples] = Reference.of(batches, score, group, path, width=2)

    def look_ahead(
        self,
        examples: Examples,
        packs: list[list[int]],
        engine: Engine,
        group: Group,
        between: Callable[[], None],
    ) -> None:
        """No example needs another."""

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
        """See `Rows.batches`."""
        return self._rows.batches(packs, lambda index: list(answers_of(examples[index])))

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> PairBatch:
        """See `batches.collate`."""
        answers = [answer for index in documents for answer in answers_of(examples[index])]
        batch = self._rows.collate(answers, supervised=supervised)
        known = self._references.get(examples)
        reference = None
        if known is not None:
            reference = torch.from_numpy(known.values[documents if supervised else []].ravel())
            reference = reference.to(batch.counts.device)
        return PairBatch(**batch.members, reference=reference)


def needs_reference(settings: Settings) -> bool:
    """Whether the loss compares with the base model."""
    return settings.loss == "DPO"


def _pair(values: Tensor) -> Pair:
    return Pair(chosen=values[0::2], rejected=values[1::2])
