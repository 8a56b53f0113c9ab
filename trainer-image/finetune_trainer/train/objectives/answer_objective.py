"""What objectives over answers share: how these lie in passes, and what the reference model, the
base, says of them.

The log-probabilities themselves are `answers.py`'s, what is made of them the subclasses' business.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from torch import Tensor

from finetune_trainer.data.answers import answers_of
from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.train.engines.engine import Engine
from finetune_trainer.train.objectives.answers import AnswerBatch, AnswerModel, Rows
from finetune_trainer.train.objectives.objective import B, Objective
from finetune_trainer.train.objectives.reference import Values, remembered, shared_out
from finetune_trainer.train.parallel import Group

M = TypeVar("M", bound=AnswerModel)
# Documents that stay together in a pass and fit into one, each by its number.
Unit = dict[int, Example]


class AnswerObjective(Objective[B], Generic[B, M]):
    """An objective over what `policy` says of answers.

    The reference of a split is computed once, before the first step, if `remember` names the split:
    cheaper where an example is seen more than once, and the only way without an adapter. Else it is
    computed on the way, with the adapter switched off. Of an example it has `columns` values.
    """

    columns: int

    def __init__(self, policy: M, rows: Rows, *, remember: frozenset[str]) -> None:
        self.policy = policy
        self._rows = rows
        self._remember = remember
        self._references: dict[Examples, Values] = {}

    @abstractmethod
    def asked(self, examples: Examples, indexes: Sequence[int]) -> list[Unit]:
        """What the reference model is asked about: documents of the examples `indexes`. A number is
        the example's place in `indexes` times `columns` and the value's column.
        """

    def begin(
        self,
        splits: Mapping[str, Examples],
        engine: Engine,
        group: Group,
        directory: Path,
    ) -> None:
        """Remember the reference of `splits`, in `directory`."""
        for name in sorted(self._remember & splits.keys()):
            examples = splits[name]
            compute = partial(self._reference, examples, engine, group)
            path = directory / f"reference-{name}.npy"
            shape = (len(examples), self.columns)
            self._references[examples] = remembered(path, compute, group, shape=shape)

    def _reference(self, examples: Examples, engine: Engine, group: Group) -> Values:
        units = self.asked(examples, range(len(examples)))
        function = self.policy.log_probabilities  # of the base: nothing has been trained
        return self._scores(function, units, len(examples), engine, group, lambda: None)

    def _scores(
        self,
        function: Callable[[AnswerBatch], Tensor],
        units: Sequence[Unit],
        count: int,
        engine: Engine,
        group: Group,
        between: Callable[[], None],
    ) -> Values:
        """What `function` says of the documents of `units`, [count, columns]; 0 where there is no
        document of a number. No dropout, no gradients.
        """
        documents = {number: document for unit in units for number, document in unit.items()}
        passes = self._rows.batches(
            [[place] for place in range(len(units))], lambda place: list(units[place].values())
        )
        self.policy.model.eval()

        def score(numbers: list[int]) -> Values:
            between()
            batch = self._rows.collate([documents[number] for number in numbers])
            found: Values = engine.evaluate(function, batch).float().cpu().numpy()
            return found

        found = shared_out(
            [[number for place in places for number in units[place]] for places in passes],
            score,
            group,
            count=count * self.columns,
        )
        return found.reshape(count, self.columns)

    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """See `Rows.batches`."""
        return self._rows.batches(packs, lambda index: list(answers_of(examples[index])))
