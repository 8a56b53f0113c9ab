"""What is computed of many documents without gradients, the documents shared out among the ranks;
and what is computed once a run and kept with the checkpoints.

The latter is computed before weights are restored or changed, so a resumed run that finds no file
computes the same again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finetune_trainer.train.parallel import Group
from finetune_trainer.workspace import sync

Values = NDArray[np.float32]
Score = Callable[[list[int]], Values]


def shared_out(batches: list[list[int]], score: Score, group: Group, *, count: int) -> Values:
    """What `score` gives for each of `count` documents, [count], 0 where no batch has it; it is
    asked for one of `batches`, lists of numbers below `count`, after the other, and the ranks take
    turns.

    All ranks call it together and get the same, to the last bit on any number of them.
    """
    values = np.zeros(count)
    for place, own in group.turns(len(batches)):
        found = score(batches[place])
        if own:
            values[batches[place]] = found
    # Each rank has its own documents, and zeros elsewhere.
    return np.array(group.sum(values.tolist())).astype(np.float32)


def remembered(
    path: Path, compute: Callable[[], Values], group: Group, *, shape: tuple[int, ...]
) -> Values:
    """What is in the file `path`, which an earlier process of this plan wrote, if all ranks find
    values of this `shape` there; else what `compute` gives, and from then on in the file.
    """
    found = _read(path, shape)
    all_found = not group.any(found is None)
    if found is not None and all_found:
        return found
    values = compute()
    if group.is_main:
        _write(path, values)
    group.barrier()
    return values


def _read(path: Path, shape: tuple[int, ...]) -> Values | None:
    try:
        values: Values = np.load(path)
    except (OSError, ValueError, EOFError):
        return None  # there is none, or a damaged one
    return values if values.shape == shape else None


def _write(path: Path, values: Values) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("wb") as file:
        np.save(file, values)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync(path.parent)
