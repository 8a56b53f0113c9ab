"""What the untouched model says of every pair, computed once and kept with the checkpoints.

Computed before weights are restored or changed, so a resumed run that finds no file computes the
same again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from finetune_trainer.data.examples import Examples
from finetune_trainer.train.parallel import Group
from finetune_trainer.workspace import sync


@dataclass(frozen=True, slots=True)
class Reference:
    """Summed log-probabilities of the two answers of every pair, float32 [pairs, 2]."""

    values: NDArray[np.float32]

    @classmethod
    def of(
        cls,
        examples: Examples,
        batches: list[list[int]],
        score: Callable[[list[int]], Tensor],
        group: Group,
        path: Path,
    ) -> Reference:
        """Those in the file `path`, which an earlier process of this plan wrote; else by `score`,
        which gives [2n] for the n pairs of a batch, the batches shared out among the ranks.
        """
        if group.any(group.is_main and path.exists()):
            return cls(np.load(path))  # written whole or not at all
        values = np.zeros((len(examples), 2), dtype=np.float32)
        for start in range(0, len(batches), group.world_size):
            place = start + group.rank
            # All ranks make as many passes: where weights are shared out, each pass needs all.
            found = score(batches[min(place, len(batches) - 1)])
            if place < len(batches):
                values[batches[place]] = found.float().cpu().numpy().reshape(-1, 2)
        # Each rank has its own rows, and zeros elsewhere.
        values = np.array(group.sum(values.ravel().tolist()), dtype=np.float32).reshape(-1, 2)
        if group.is_main:
            _write(path, values)
        group.barrier()
        return cls(values)


def _write(path: Path, values: NDArray[np.float32]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)
