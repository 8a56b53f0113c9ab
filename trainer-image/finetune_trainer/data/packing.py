"""Which examples share a sequence, in which order: a pure function of lengths, seed and epoch.

Best fit decreasing (Johnson, 1973; for documents of language models Ding et al., arXiv:2404.10830)
over the whole epoch, kept as arrays of indexes: no token is copied, none is dropped, and ten
million examples take a few hundred MB. The order of the sequences is shuffled, so that length and
step are not correlated. `prepare` counts steps with it, `train` reads by it.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Indexes = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Sequences:
    """Lists of example indexes, one list a sequence, as two arrays.

    Attributes:
        examples: the indexes, sequence after sequence, shape [examples].
        starts: where each sequence begins in `examples`, and its end, shape [sequences + 1].
    """

    examples: Indexes
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1

    def __getitem__(self, span: slice) -> list[list[int]]:
        """The sequences in `span`, which has a step of 1."""
        first, stop, _ = span.indices(len(self))
        bounds = self.starts[first : max(first, stop) + 1].tolist()
        return [self.examples[start:end].tolist() for start, end in pairwise(bounds)]


def plan_epoch(
    lengths: NDArray[np.int64], *, capacity: int, packing: bool, seed: int, epoch: int
) -> Sequences:
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
    order = np.arange(len(lengths), dtype=np.int32)
    random.shuffle(order)
    if not packing:
        return Sequences(order, np.arange(len(order) + 1))
    # NumPy sorts 16-bit keys by radix, which is stable and needs no comparison.
    room = (capacity - lengths).astype(np.uint16 if capacity < 2**16 else np.int64)
    decreasing = order[np.argsort(room[order], kind="stable")]
    packs = best_fit(lengths[decreasing], capacity)
    places = random.permutation(int(packs.max(initial=-1)) + 1).astype(np.int32)
    packs = places[packs]
    counts = np.bincount(packs, minlength=len(places))
    return Sequences(
        examples=decreasing[np.argsort(packs, kind="stable")],
        starts=np.concatenate([[0], np.cumsum(counts)]),
    )


def best_fit(lengths: NDArray[np.int64], capacity: int) -> Indexes:
    """The pack of each item: items go, in the order given, where the least room is left for them.

    Packs are numbered from 0 as they are opened. Equal lengths in a row are placed together: the
    tightest pack that takes one of them stays the tightest until it takes no more.

    Args:
        lengths: of every item, shape [items]; none is larger than `capacity`.
    """
    packs = np.empty(len(lengths), dtype=np.int32)
    edges = np.flatnonzero(np.diff(lengths, prepend=-1, append=-1)).tolist()
    shelf = _Shelf(capacity)
    for start, end in pairwise(edges):
        length = int(lengths[start])
        while start < end:
            space, chosen = shelf.take(length, end - start)
            each = space // length
            filled = min(len(chosen), (end - start) // each)
            packs[start : start + filled * each] = np.repeat(chosen[:filled], each)
            start += filled * each
            shelf.put(space - each * length, chosen[:filled])
            if filled < len(chosen):
                packs[start:end] = chosen[filled]
                shelf.put(space - (end - start) * length, chosen[filled:])
                start = end
    return packs


class _Shelf:
    """Packs by the space left in them; at most `capacity` different spaces exist."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._packs = 0
        self._by_space: dict[int, list[Indexes]] = {}
        self._spaces: list[int] = []

    def take(self, length: int, items: int) -> tuple[int, Indexes]:
        """Packs of one space, the smallest that takes `length`: no more than `items` of them fill,
        but for the last. New ones, if none has room.
        """
        position = bisect_left(self._spaces, length)
        is_new = position == len(self._spaces)
        space = self._capacity if is_new else self._spaces[position]
        wanted = -(-items // (space // length))
        if is_new:
            first, self._packs = self._packs, self._packs + wanted
            return space, np.arange(first, self._packs, dtype=np.int32)
        pile = self._by_space[space]
        taken = pile.pop()
        if len(taken) > wanted:
            pile.append(taken[:-wanted])
            taken = taken[-wanted:]
        if not pile:
            del self._by_space[space], self._spaces[position]
        return space, taken

    def put(self, space: int, packs: Indexes) -> None:
        """Keep packs with this much space left."""
        if not space or not len(packs):
            return
        if space not in self._by_space:
            self._by_space[space] = []
            insort(self._spaces, space)
        self._by_space[space].append(packs)


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
    """Optimizer steps of the run: `max_steps` if given, else those of `epochs` (default 1)."""
    if max_steps is not None:
        return max_steps
    first = plan_epoch(lengths, capacity=capacity, packing=packing, seed=seed, epoch=0)
    return steps_of(len(first), sequences_per_step=sequences_per_step, epochs=epochs)


def steps_of(sequences: int, *, sequences_per_step: int, epochs: int | None) -> int:
    """Optimizer steps of `epochs` (default 1) of which the first has so many `sequences`.

    Best fit decreasing fills the same spaces whichever of two equal lengths comes first, so every
    epoch has as many sequences as the first.
    """
    return steps_per_epoch(sequences, sequences_per_step) * (epochs or 1)
