"""Learning from pairs of answers, of which one is preferred: DPO, SimPO, ORPO.

Belongs here: where their log-probabilities come from. What is made of these is in
`preference_losses.py`, with its equations and sources.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Examples
from finetune_trainer.run import Preference as Settings
from finetune_trainer.train.objectives.answer_objective import AnswerObjective, Unit
from finetune_trainer.train.objectives.answers import AnswerBatch, AnswerModel, Rows
from finetune_trainer.train.objectives.preference_losses import Judged, Pair, dpo, orpo, simpo


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch(AnswerBatch):
    """The documents of n pairs, the preferred one first.

    `reference` [2n] are the base's summed log-probabilities, None where they are computed on the
    way or not needed.
    """

    reference: Tensor | None


class PreferenceLoss(AnswerModel):
    """A causal model as a function from pairs to their losses."""

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


class Preference(AnswerObjective[PairBatch, PreferenceLoss]):
    """One of the losses of `preference_losses.py`, summed over pairs."""

    counts = 2
    columns = 2

    def __init__(self, policy: PreferenceLoss, rows: Rows, *, remember: frozenset[str]) -> None:
        wanted = remember if needs_reference(policy.settings) else frozenset()
        super().__init__(policy, rows, remember=wanted)

    def asked(self, examples: Examples, indexes: Sequence[int]) -> list[Unit]:
        """Both answers of each pair, together as when they are trained."""
        return [
            dict(enumerate(answers_of(examples[index]), start=place * self.columns))
            for place, index in enumerate(indexes)
        ]

    def loss(self, batch: PairBatch) -> Tensor:
        """See `Objective`."""
        return self.policy.judge(batch).losses.sum()

    def step(self, batch: PairBatch) -> Tensor:
        """All of `measure`."""
        return self.measure(batch)

    def measure(self, batch: PairBatch) -> Tensor:
        """The loss; how many preferred answers have the higher reward; the sum of what they have
        more: [3].
        """
        losses, rewards = self.policy.judge(batch)
        margins = (rewards.chosen - rewards.rejected).detach()
        return torch.stack([losses.sum(), (margins > 0).sum().to(losses), margins.sum()])

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """How often the preferred answer has the higher reward, and how much higher on average
        (TRL's rewards/accuracies and rewards/margins).
        """
        correct, margin = counts
        return {"reward_accuracy": correct / targets, "reward_margin": margin / targets}

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Pairs."""
        return len(documents)

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> PairBatch:
        """See `batches.collate`."""
        answers = [answer for index in documents for answer in answers_of(examples[index])]
        batch = self._rows.collate(answers, supervised=supervised)
        known = self._references.get(examples)
        reference = None
        if known is not None:
            reference = torch.from_numpy(known[documents if supervised else []].ravel())
            reference = reference.to(batch.counts.device)
        return PairBatch(**batch.members, reference=reference)


def needs_reference(settings: Settings) -> bool:
    """Whether the loss compares with the base model."""
    return settings.loss == "DPO"


def _pair(values: Tensor) -> Pair:
    return Pair(chosen=values[0::2], rejected=values[1::2])
