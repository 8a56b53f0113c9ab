"""What is computed of every example without gradients, the examples shared out among the ranks; and
what the untouched model says of all answers, computed once and kept with the checkpoints.

The latter is computed before weights are restored or changed, so a resumed run that finds no file
computes the same again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.train.parallel import Group
from finetune_trainer.workspace import sync

Values = NDArray[np.float32]
Score = Callable[[list[int]], Values]


def shared_out(
    batches: list[list[int]], score: Score, group: Group, *, width: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The examples of all `batches` in their order, [n], and what `score` gives for each of them,
    [n, width]; `score` is asked for one batch after the other, and the ranks take turns.

    All ranks call it together and get the same, to the last bit on any number of them.
    """
    order = np.array([index for batch in batches for index in batch], dtype=np.int64)
    ends = np.cumsum([len(batch) for batch in batches])
    values = np.zeros((len(order), width))
    for place, own in group.turns(len(batches)):
        found = score(batches[place])
        if own:
            values[ends[place] - len(batches[place]) : ends[place]] = found
    # Each rank has its own rows, and zeros elsewhere.
    return order, np.array(group.sum(values.ravel().tolist())).reshape(values.shape)


@dataclass(frozen=True, slots=True)
class Reference:
    """Summed log-probabilities of each example's answers, float32 [examples, width]."""

    values: Values

    @classmethod
    def of(
        cls,
        batches: list[list[int]],
        score: Score,
        group: Group,
        path: Path,
        *,
        width: int,
    ) -> Reference:
        """Those in the file `path`, which an earlier process of this plan wrote; else by `score`,
        of `batches` that have every example.
        """
        if group.any(group.is_main and path.exists()):
            return cls(np.load(path))  # written whole or not at all
        order, found = shared_out(batches, score, group, width=width)
        values = np.empty(found.shape, dtype=np.float32)
        values[order] = found
        if group.is_main:
            _write(path, values)
        group.barrier()
        return cls(values)


def _write(path: Path, values: Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)
