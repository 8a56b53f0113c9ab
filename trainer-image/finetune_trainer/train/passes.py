"""The forward passes of one step on this rank: its share of the sequences, as batches.

What a batch is made of is the objective's; what is done with it the recipe's.
"""

from __future__ import annotations

from collections.abc import Iterator

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.objectives.objective import B, Objective
from finetune_trainer.train.parallel import Group


def passes_of(
    objective: Objective[B], examples: Examples, sequences: list[list[int]], group: Group
) -> tuple[list[list[int]], Iterator[tuple[B, bool]]]:
    """The documents of each pass that trains, and the batch of every pass with whether it is the
    last one.

    All ranks make as many passes (see `Engine`), some for a gradient of zero.
    """
    mine = objective.batches(examples, sequences[group.rank :: group.world_size])
    count = int(group.maximum(len(mine)))

    def passes() -> Iterator[tuple[B, bool]]:
        for index in range(count):
            if index < len(mine):
                batch = objective.collate(examples, mine[index])
            else:
                batch = objective.collate(examples, sequences[0][:1], supervised=False)
            yield batch, index == count - 1

    return mine, passes()
