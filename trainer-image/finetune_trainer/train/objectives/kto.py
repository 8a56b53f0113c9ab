"""Learning from answers that were judged one by one: Kahneman-Tversky optimization.

An example is an answer, desirable or not, or a pair, which counts as one of each (see
`data.answers`). Its loss depends on the reference point, beta times the KL divergence between model
and base, which is estimated over the whole step, before the step's first gradient: so the cut into
passes and ranks changes nothing. The estimate is the paper's and TRL's (arXiv:2402.01306, section
4.1): the mean of log p - log p_reference over mismatched answers, each prompt of the step before
another example's answer, not below 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Example, Examples, Tokens
from finetune_trainer.train.engines.engine import Engine
from finetune_trainer.train.objectives.answer_objective import AnswerObjective, Unit
from finetune_trainer.train.objectives.answers import AnswerBatch, AnswerModel, Rows
from finetune_trainer.train.objectives.preference_losses import kto
from finetune_trainer.train.objectives.reference import Values
from finetune_trainer.train.parallel import Group

# The base's values of an example by column: of its desirable answer, of the other, and in the same
# order of the mismatched ones; 0 where it has none.
OWN, MISMATCHED = (0, 1), (2, 3)


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBatch(AnswerBatch):
    """The documents of n answers: `reference` [n] are the base's summed log-probabilities,
    `desirable` [n] tells which are; `kl` is the scalar that the reference point is made of.
    """

    reference: Tensor
    desirable: Tensor
    kl: Tensor


class KtoLoss(AnswerModel):
    """A causal model as a function from answers to their losses."""

    def judge(self, batch: JudgedBatch) -> tuple[Tensor, Tensor]:
        """Loss and reward of every answer, [n] each."""
        settings = self.settings
        rewards = settings.beta * (self.log_probabilities(batch) - batch.reference)
        losses = kto(
            rewards,
            batch.desirable,
            zero=settings.beta * batch.kl,
            weights=(settings.desirable_weight, settings.undesirable_weight),
        )
        return losses, rewards


class Kto(AnswerObjective[JudgedBatch, KtoLoss]):
    """KTO, summed over answers.

    The base's values are those of the answers and of the mismatched ones. Where they are not
    remembered `look_ahead` computes a step's.
    """

    counts = 5
    columns = 4

    def __init__(self, policy: KtoLoss, rows: Rows, *, remember: frozenset[str]) -> None:
        super().__init__(policy, rows, remember=remember)
        # What `look_ahead` found: the divergence, and the base's values by example.
        self.kl = 0.0
        self._base: Mapping[int, Values] = {}

    def asked(self, examples: Examples, indexes: Sequence[int]) -> list[Unit]:
        """The answers and the mismatched ones."""
        return self._own(examples, indexes) + self._mismatched(examples, indexes)

    def look_ahead(
        self,
        examples: Examples,
        packs: list[list[int]],
        engine: Engine,
        group: Group,
        between: Callable[[], None],
    ) -> None:
        """Estimate the divergence over all `packs`."""
        indexes = [index for pack in packs for index in pack]

        def scores(function: Callable[[AnswerBatch], Tensor], units: list[Unit]) -> Values:
            return self._scores(function, units, len(indexes), engine, group, between)

        mismatched = self._mismatched(examples, indexes)
        policy = scores(self.policy.log_probabilities, mismatched)
        known = self._references.get(examples)
        base = (
            known[indexes]
            if known is not None
            else scores(
                self.policy.base_log_probabilities, self._own(examples, indexes) + mismatched
            )
        )
        ratios = policy.astype(np.float64)[:, MISMATCHED] - base[:, MISMATCHED]
        self.kl = max(0.0, float(ratios.sum()) / self.targets(examples, indexes))
        self._base = dict(zip(indexes, base, strict=True))

    def _own(self, examples: Examples, indexes: Sequence[int]) -> list[Unit]:
        """The answers of each example, together as when they are trained."""
        return [
            {
                place * self.columns + _column(answer, OWN): answer
                for answer in answers_of(examples[index])
            }
            for place, index in enumerate(indexes)
        ]

    def _mismatched(self, examples: Examples, indexes: Sequence[int]) -> list[Unit]:
        """The mismatched answers, one by one: together they may be larger than a pass."""
        return [
            {place * self.columns + _column(answer, MISMATCHED): document}
            for place, index in enumerate(indexes)
            for answer, document in zip(
                answers_of(examples[index]),
                mismatched(examples, index, self._rows.capacity),
                strict=True,
            )
        ]

    def loss(self, batch: JudgedBatch) -> Tensor:
        """See `Objective`."""
        return self.policy.judge(batch)[0].sum()

    def step(self, batch: JudgedBatch) -> Tensor:
        """All of `measure`."""
        return self.measure(batch)

    def measure(self, batch: JudgedBatch) -> Tensor:
        """The loss; the sum of the desirable answers' rewards and their number; the same of the
        others; the divergence, for each answer: [6].
        """
        losses, rewards = self.policy.judge(batch)
        sums = [losses.sum()]
        for kind in (batch.desirable, ~batch.desirable):
            sums += [rewards.detach()[kind].sum(), kind.sum().to(losses)]
        return torch.stack([*sums, batch.kl * len(losses)])

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """The mean rewards of desirable and of other answers, how far they are apart, and the
        divergence from the base (TRL's rewards/chosen, rewards/rejected, rewards/margins and kl).
        """
        *rewards, divergence = counts
        found = {"kl": divergence / targets}
        for name, total, count in zip(
            ("reward_chosen", "reward_rejected"), rewards[0::2], rewards[1::2], strict=True
        ):
            if count:
                found[name] = total / count
        if {"reward_chosen", "reward_rejected"} <= found.keys():
            found["reward_margin"] = found["reward_chosen"] - found["reward_rejected"]
        return found

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Answers."""
        return sum(len(answers_of(examples[index])) for index in documents)

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> JudgedBatch:
        """See `batches.collate`; of examples that `look_ahead` was given."""
        answers = [(index, answer) for index in documents for answer in answers_of(examples[index])]
        batch = self._rows.collate([answer for _, answer in answers], supervised=supervised)
        desirable = [bool(answer.labels[0]) for _, answer in answers if supervised]
        base = [
            float(self._base[index][_column(answer, OWN)])
            for index, answer in answers
            if supervised
        ]
        device = batch.counts.device
        return JudgedBatch(
            **batch.members,
            reference=torch.tensor(base, dtype=torch.float32, device=device),
            desirable=torch.tensor(desirable, dtype=torch.bool, device=device),
            kl=torch.tensor(self.kl, dtype=torch.float32, device=device),
        )


def _column(answer: Example, columns: tuple[int, int]) -> int:
    """Which of the two belongs to `answer`, desirable or not."""
    return columns[0] if answer.labels[0] else columns[1]


def mismatched(examples: Examples, index: int, capacity: int) -> tuple[Example, ...]:
    """For each answer of an example its prompt with an answer of another one, cut off at `capacity`
    tokens.

    A function of the data set alone, so that the base's values can be remembered.
    """
    own, others = answers_of(examples[index]), answers_of(examples[_partner(examples, index)])
    found = []
    for place, answer in enumerate(own):
        other = others[min(place, len(others) - 1)]
        prompt, start = _prompt(answer), len(_prompt(other))
        supervised = np.concatenate([np.zeros(len(prompt), np.bool_), other.supervised[start:]])
        tokens = np.concatenate([prompt, other.tokens[start:]])
        found.append(Example(tokens[:capacity], supervised[:capacity]))
    return tuple(found)


def _partner(examples: Examples, index: int) -> int:
    """Whose answers are put behind the prompt of `index`: the next example with another prompt, in
    steps that double, since answers to one prompt are often neighbours; else just the next.
    """
    prompt, count = _prompt(answers_of(examples[index])[0]), len(examples)
    step = 1
    while step < count:
        other = (index + step) % count
        if not np.array_equal(prompt, _prompt(answers_of(examples[other])[0])):
            return other
        step *= 2
    return (index + 1) % count


def _prompt(answer: Example) -> Tokens:
    """What comes before the first supervised token."""
    return answer.tokens[: int(np.argmax(answer.supervised))]
