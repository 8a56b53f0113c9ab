"""Which keys each token of a row sees, as a few dense blocks.

A row holds segments of documents (`prefixes.py`). The queries of a segment are cut into blocks;
blocks of like size are padded to one shape and computed together. The cost is the sum over the
tokens of what each sees, and little more.

Belongs here: the plan, computed once for all layers. The products are `attention.py`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from weakref import WeakValueDictionary

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finetune_trainer.train.speed.prefixes import NO_PARENT, Forest, Segment

# Queries of a block: more would compute more of the triangle that causality forbids, fewer would
# make many small products.
BLOCK = 96
# A block may be padded to this many times its own area to share a product with others.
PADDING = 1.3
# Scores below this count of one block are cheap enough to be padded at will.
SMALL = 1024

# The position of a key that is padding: after every query.
_NEVER = 2**30


@dataclass(frozen=True, slots=True)
class Bucket:
    """`n` blocks of up to `L` queries and `K` keys.

    `queries` [n * L] and `keys` [n * K] are places in the row; `real` [n, L] is 0 for queries that
    are padding, else 1. `distance` [n, L, K] is by how many positions a key comes before a query,
    negative for keys that come after it or are padding.
    """

    shape: tuple[int, int, int]
    queries: Tensor
    keys: Tensor
    distance: Tensor
    real: Tensor
    _biases: dict[tuple[torch.dtype, int | None], Tensor] = field(default_factory=dict)

    def bias(self, dtype: torch.dtype, window: int | None) -> Tensor:
        """What is added to the scores [n, L, K]: 0 for a key that is seen, else minus infinity.

        `window` counts the keys a query sees, itself included.
        """
        key = (dtype, window)
        if key not in self._biases:
            hidden = self.distance < 0
            if window is not None:
                hidden |= self.distance >= window
            bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
            self._biases[key] = bias.masked_fill_(hidden, float("-inf"))
        return self._biases[key]


@dataclass(slots=True, weakref_slot=True)
class Layout:
    """The blocks of one row of `length` tokens. `gather` [length] are the places of the row's
    tokens in the buckets' queries, one bucket after the other. `documents` are the lengths of
    documents that lie one after the other and share nothing; None where some do share. `longest`
    counts the tokens of the longest document.
    """

    length: int
    longest: int
    buckets: tuple[Bucket, ...]
    gather: Tensor
    documents: tuple[int, ...] | None
    number: int = field(default_factory=count().__next__)

    def handle(self) -> Tensor:
        """What a compiled graph can carry instead of this object, and keeps it alive: see
        `layout_of`.
        """
        _layouts[self.number] = self
        handle = torch.tensor(self.number)
        handle.finetune_layout = self
        return handle


_layouts: WeakValueDictionary[int, Layout] = WeakValueDictionary()


def layout_of(handle: Tensor) -> Layout:
    """The layout that gave `handle`, or the tensor that `handle` is a copy of."""
    return _layouts[int(handle)]


@dataclass(frozen=True, slots=True)
class _Block:
    queries: NDArray[np.int64]
    keys: NDArray[np.int64]
    first_position: int


def plan_layout(forest: Forest, device: torch.device) -> Layout:
    """The blocks of the row that `forest` lies in."""
    blocks = [block for segment in forest.segments for block in _blocks(segment, forest.segments)]
    buckets, order = [], []
    for group in _alike(blocks):
        bucket, places = _bucket(group, device)
        buckets.append(bucket)
        order.append(places)
    # Where each token's query is: the inverse of where the real queries come from.
    places = np.concatenate(order)
    real = np.flatnonzero(places >= 0)
    gather = np.empty(len(forest.tokens), dtype=np.int64)
    gather[places[real]] = real
    alone = all(segment.parent == NO_PARENT for segment in forest.segments)
    return Layout(
        length=len(forest.tokens),
        longest=max(len(rows) for rows in forest.rows),
        buckets=tuple(buckets),
        gather=torch.from_numpy(gather).to(device),
        documents=tuple(segment.length for segment in forest.segments) if alone else None,
    )


def _blocks(segment: Segment, segments: tuple[Segment, ...]) -> list[_Block]:
    before = []
    above = segment.parent
    while above != NO_PARENT:
        ancestor = segments[above]
        before.append(np.arange(ancestor.start, ancestor.start + ancestor.length))
        above = ancestor.parent
    own = np.arange(segment.start, segment.start + segment.length)
    return [
        _Block(
            queries=own[first : first + BLOCK],
            keys=np.concatenate([*before[::-1], own[: first + BLOCK]]),
            first_position=segment.depth + first,
        )
        for first in range(0, segment.length, BLOCK)
    ]


def _alike(blocks: list[_Block]) -> list[list[_Block]]:
    """Blocks of like size together, the largest of each group first."""
    groups: list[list[_Block]] = []
    for block in sorted(blocks, key=lambda block: (-len(block.queries), -len(block.keys))):
        most = max(SMALL, PADDING * len(block.queries) * len(block.keys))
        for group in groups:
            queries, keys = len(group[0].queries), len(group[0].keys)
            if len(block.keys) <= keys and queries * keys <= most:
                group.append(block)
                break
        else:
            groups.append([block])
    return groups


def _bucket(group: list[_Block], device: torch.device) -> tuple[Bucket, NDArray[np.int64]]:
    """The padded blocks, and the place in the row of each query, -1 for padding."""
    n, queries, keys = len(group), len(group[0].queries), len(group[0].keys)
    query_places = np.full((n, queries), -1, dtype=np.int64)
    key_places = np.zeros((n, keys), dtype=np.int64)
    asked = np.empty((n, queries), dtype=np.int64)
    seen = np.full((n, keys), _NEVER, dtype=np.int64)
    for index, block in enumerate(group):
        # Padding asks as the first query does: a row of scores that sees no key would be NaN.
        asked[index] = block.first_position
        query_places[index, : len(block.queries)] = block.queries
        key_places[index, : len(block.keys)] = block.keys
        seen[index, : len(block.keys)] = np.arange(len(block.keys))
        asked[index, : len(block.queries)] = block.first_position + np.arange(len(block.queries))
    distance = asked[:, :, None] - seen[:, None, :]
    bucket = Bucket(
        shape=(n, queries, keys),
        queries=torch.from_numpy(np.maximum(query_places, 0).ravel()).to(device),
        keys=torch.from_numpy(key_places.ravel()).to(device),
        distance=torch.from_numpy(distance.astype(np.int32)).to(device),
        real=torch.from_numpy((query_places >= 0).astype(np.float32)).to(device),
    )
    return bucket, query_places.ravel()
