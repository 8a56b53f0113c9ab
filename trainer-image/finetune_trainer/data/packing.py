"""Which examples share a sequence, in which order: a pure function of lengths, seed and epoch.

Best fit decreasing over the whole epoch, kept as index lists: no token is copied, none is dropped. The order of the
sequences is shuffled, so that length and step are not correlated. `prepare` counts steps with it, `train` reads by it.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray


def plan_epoch(
    lengths: NDArray[np.int64], *, capacity: int, packing: bool, seed: int, epoch: int
) -> list[list[int]]:
    """The epoch's sequences, each a list of example indexes whose lengths sum to at most `capacity`.

    Without `packing` every sequence holds one example. Ties are broken by a shuffle of (seed, epoch), so packs
    change from epoch to epoch.

    Raises:
        ValueError: an example is longer than `capacity`.
    """
    if len(lengths) and int(lengths.max()) > capacity:
        raise ValueError(f"an example of {int(lengths.max())} tokens does not fit into {capacity}")
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    if not packing:
        return [[int(index)] for index in order]
    packs: list[list[int]] = []
    # (free space, pack), sorted: the first entry that is large enough is the best fit.
    free: list[tuple[int, int]] = []
    for index in order[np.argsort(-lengths[order], kind="stable")]:
        length = int(lengths[index])
        position = bisect_left(free, (length, -1))
        if position == len(free):
            packs.append([])
            space, pack = capacity, len(packs) - 1
        else:
            space, pack = free.pop(position)
        packs[pack].append(int(index))
        if space > length:
            insort(free, (space - length, pack))
    return [packs[int(pack)] for pack in random.permutation(len(packs))]


def steps_per_epoch(sequences: int, sequences_per_step: int) -> int:
    """Optimizer steps that `sequences` make; the last step of an epoch may be smaller."""
    return -(-sequences // sequences_per_step)


def total_steps(
    lengths: NDArray[np.int64],
    *,
    capacity: int,
    packing: bool,
    seed: int,
    sequences_per_step: int,
    epochs: int | None,
    max_steps: int | None,
) -> int:
    """Optimizer steps of the whole run: `max_steps` if given, else those of `epochs` epochs (default 1)."""
    if max_steps is not None:
        return max_steps
    return sum(
        steps_per_epoch(
            len(plan_epoch(lengths, capacity=capacity, packing=packing, seed=seed, epoch=epoch)),
            sequences_per_step,
        )
        for epoch in range(epochs or 1)
    )
