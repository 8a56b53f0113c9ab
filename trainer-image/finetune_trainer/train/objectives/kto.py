"""Learning from answers that were judged one by one: Kahneman-Tversky optimization.

An example is an answer, desirable or not, or a pair, which counts as one of each (see
`data.answers`). Its loss depends on the reference point, beta times the KL divergence between model
and base, which is estimated over the whole step, before the step's first gradient: so the cut into
passes and ranks changes nothing. The estimate is the paper's and TRL's (arXiv:2402.01306, section
4.1): the mean of log p - log p_reference over mismatched answers, each prompt of the step before
another example's answer, not below 0.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Example, Examples, Tokens
from finetune_trainer.run import Preference as Settings
from finetune_trainer.train.engines.engine import Engine
from finetune_trainer.train.objectives.answers import AnswerBatch, AnswerModel, Rows
from finetune_trainer.train.objectives.preference_losses import kto
from finetune_trainer.train.objectives.reference import Reference, Values, shared_out
from finetune_trainer.train.parallel import Group
from finetune_trainer.train.probe import Abilities

# An example's values by column: its desirable answer's, the other's, and in the same order those of
# the mismatched ones; 0 where it has none.
OWN, MISMATCHED = [0, 1], [2, 3]
WIDTH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedBatch(AnswerBatch):
    """The documents of n answers: `reference` [n] are the base's summed log-probabilities,
    `desirable` [n] tells which are; `kl` is the scalar that the reference point is made of.
    """

    reference: Tensor
    desirable: Tensor
    kl: Tensor


class KtoLoss(AnswerModel):
    """A causal model as a function from answers to their summed loss."""

    def forward(self, batch: JudgedBatch) -> Tensor:
        """The sum over the answers of their loss, a float32 scalar."""
        return self.judge(batch)[0].sum()

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


class Kto:
    """KTO, summed over answers.

    The base's values of a split are computed once, before the first step, if `remember` names the
    split: those of its answers and of the mismatched ones. Else `look_ahead` computes a step's with
    the `adapter` switched off, both in the same passes, where they share their prompts.
    """

    counts = 4

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
        self.module = KtoLoss(
            model,
            settings,
            adapter=adapter,
            separable_head=abilities.separable_head,
            autocast=autocast,
        )
        self._remember = remember
        self._rows = Rows.of(abilities, capacity, device)
        self._references: dict[Examples, Reference] = {}
        # What `look_ahead` found: the divergence, and the base's values by example.
        self.kl = 0.0
        self._base: Mapping[int, Values] | Values = {}

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

            def score(indexes: list[int], examples: Examples = examples) -> Values:
                every = OWN + MISMATCHED
                return self._values(engine, self.module.log_probabilities, examples, indexes, every)

            batches = self._batches(examples, list(range(len(examples))), OWN + MISMATCHED)
            path = directory / f"reference-{name}.npy"
            self._references[examples] = Reference.of(batches, score, group, path, width=WIDTH)

    def look_ahead(
        self,
        examples: Examples,
        packs: list[list[int]],
        engine: Engine,
        group: Group,
        between: Callable[[], None],
    ) -> None:
        """Estimate the divergence over all `packs`, in one reduction over the ranks."""
        indexes = [index for pack in packs for index in pack]
        known = self._references.get(examples)
        wanted = MISMATCHED if known else OWN + MISMATCHED
        module = self.module
        module.model.eval()

        def score(batch: list[int]) -> Values:
            between()
            policy = self._values(engine, module.log_probabilities, examples, batch, MISMATCHED)
            base = (
                known.values[batch]
                if known
                else self._values(engine, module.base_log_probabilities, examples, batch, wanted)
            )
            return np.concatenate([policy[:, MISMATCHED], base], axis=1)

        batches = self._batches(examples, indexes, wanted)
        order, found = shared_out(batches, score, group, width=2 + WIDTH)
        policy, base = found[:, :2], found[:, 2:]
        ratios = (policy - base[:, MISMATCHED]).sum()
        self.kl = max(0.0, float(ratios) / self.targets(examples, indexes))
        rows = base.astype(np.float32)  # as they were
        self._base = known.values if known else dict(zip(order.tolist(), rows, strict=True))

    def _batches(
        self, examples: Examples, indexes: list[int], columns: list[int]
    ) -> list[list[int]]:
        return self._rows.batches(
            [[index] for index in indexes],
            lambda index: [document for _, document in self._unit(examples, index, columns)],
        )

    def _values(
        self,
        engine: Engine,
        function: Callable[[AnswerBatch], Tensor],
        examples: Examples,
        indexes: list[int],
        columns: list[int],
    ) -> Values:
        """What `function` says of the `columns` of the examples `indexes`, [n, WIDTH]."""
        values = np.zeros((len(indexes), WIDTH), dtype=np.float32)
        units = [self._unit(examples, index, columns) for index in indexes]
        places = [(row, column) for row, unit in enumerate(units) for column, _ in unit]
        batch = self._rows.collate([document for unit in units for _, document in unit])
        found = engine.evaluate(function, batch).float().cpu().numpy()
        values[tuple(np.array(places).T)] = found
        return values

    def _unit(
        self, examples: Examples, index: int, columns: list[int]
    ) -> list[tuple[int, Example]]:
        """The documents in `columns` of one example, which begin alike, each with its column."""
        own = answers_of(examples[index])
        kinds = [(OWN, own)] if OWN[0] in columns else []
        if MISMATCHED[0] in columns:
            kinds.append((MISMATCHED, mismatched(examples, index, self._rows.capacity)))
        return [
            (place[0] if judged.labels[0] else place[1], document)
            for place, documents in kinds
            for judged, document in zip(own, documents, strict=True)
        ]

    def measure(self, batch: JudgedBatch) -> Tensor:
        """The loss; the sum of the desirable answers' rewards and their number; the same of the
        others: [5].
        """
        losses, rewards = self.module.judge(batch)
        sums = [losses.sum()]
        for kind in (batch.desirable, ~batch.desirable):
            sums += [rewards[kind].sum(), kind.sum().to(losses)]
        return torch.stack(sums)

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """The mean rewards of desirable and of other answers, how far they are apart, and the
        divergence from the base (TRL's rewards/chosen, rewards/rejected, rewards/margins and kl).
        """
        found = {"kl": self.kl}
        for name, total, count in zip(
            ("reward_chosen", "reward_rejected"), counts[0::2], counts[1::2], strict=True
        ):
            if count:
                found[name] = total / count
        if {"reward_chosen", "reward_rejected"} <= found.keys():
            found["reward_margin"] = found["reward_chosen"] - found["reward_rejected"]
        return found

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Answers."""
        return sum(len(answers_of(examples[index])) for index in documents)

    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """See `Rows.batches`."""
        return self._rows.batches(packs, lambda index: list(answers_of(examples[index])))

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> JudgedBatch:
        """See `batches.collate`; of examples that `look_ahead` was given."""
        answers = [(index, answer) for index in documents for answer in answers_of(examples[index])]
        batch = self._rows.collate([answer for _, answer in answers], supervised=supervised)
        desirable = [bool(answer.labels[0]) for _, answer in answers if supervised]
        base = [
            float(self._base[index][OWN[0] if answer.labels[0] else OWN[1]])
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
