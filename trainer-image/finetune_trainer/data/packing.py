"""Which examples share a sequence, in which order: a pure function of lengths, seed and epoch.

Best fit decreasing over the whole epoch, kept as index lists: no token is copied, none is dropped.
The order of the sequences is shuffled, so that length and step are not correlated. `prepare` counts
steps with it, `train` reads by it.
"""

from __future__ import annotations

from bisect import bisect_left, insort

import numpy as np
from numpy.typing import NDArray


def plan_epoch(
    lengths: NDArray[np.int64], *, capacity: int, packing: bool, seed: int, epoch: int
) -> list[list[int]]:
    """The epoch's sequences: lists of example indexes whose lengths sum to at most `capacity`.

    Without `packing` every sequence holds one example. Ties are broken by a shuffle of
    (seed, epoch), so packs change from epoch to epoch; their number does not.

    Args:
        lengths: tokens of every example, shape [examples].
        capacity: most tokens of a sequence.

    Raises:
        ValueError: an example is longer than `capacity`.
    """
    if len(lengths) and int(lengths.max()) > capacity:
        raise ValueError(f"an example of {int(lengths.max())} tokens does not fit into {capacity}")
    random = np.random.default_rng((seed, epoch))
    order = random.permutation(len(lengths))
    if not packing:
        return [[index] for index in order.tolist()]
    decreasing = order[np.argsort(-lengths[order], kind="stable")]
    packs = best_fit(decreasing.tolist(), lengths[decreasing].tolist(), capacity)
    return [packs[pack] for pack in random.permutation(len(packs)).tolist()]


def best_fit(indexes: list[int], lengths: list[int], capacity: int) -> list[list[int]]:
    """Put each item, in the order given, into the fullest pack that still has room for it."""
    packs: list[list[int]] = []
    # Packs by free space, and the spaces that occur, sorted. At most `capacity` different spaces
    # exist, so an item costs O(log capacity) however many packs are open.
    by_space: dict[int, list[list[int]]] = {}
    spaces: list[int] = []
    for index, length in zip(indexes, lengths, strict=True):
        position = bisect_left(spaces, length)
        if position == len(spaces):
            pack: list[int] = []
            packs.append(pack)
            space = capacity
        else:
            space = spaces[position]
            open_packs = by_space[space]
            pack = open_packs.pop()
            if not open_packs:
                del by_space[space], spaces[position]
        pack.append(index)
        if space > length:
            left = space - length
            if left not in by_space:
                by_space[left] = []
                insort(spaces, left)
            by_space[left].append(pack)
    return packs


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
    """Optimizer steps of the run: `max_steps` if given, else those of `epochs` (default 1).

    Best fit decreasing fills the same spaces whichever of two equal lengths comes first, so every
    epoch has as many sequences as the first.
    """
    if max_steps is not None:
        return max_steps
    first = plan_epoch(lengths, capacity=capacity, packing=packing, seed=seed, epoch=0)
    return steps_per_epoch(len(first), sequences_per_step) * (epochs or 1)
