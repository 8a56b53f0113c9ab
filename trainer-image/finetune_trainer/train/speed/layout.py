"""Which keys each token of a row sees, as a few dense blocks.

A row holds segments of documents (`prefixes.py`). The queries of a segment are cut into blocks;
blocks of like size are padded to one shape and computed together. The cost is the sum over the
tokens of what each sees, and little more. On CPUs, long segments are computed in another way.

Belongs here: the plan, computed once for all layers. The products are `attention.py`'s,
`blocks.py`'s and `stretches.py`'s.
"""

from __future__ import annotations

import math
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
# Scores that a head computes in one product, if the block is not a small one. With more of them
# they do not stay in a core's cache from one pass over them to the next: two blocks of 96 x 576
# take twice as long together as one after the other.
TOGETHER = 2**16
# Segments that see up to so many keys keep their weights for the backward pass on CPUs, which costs
# as much memory as a few of the layer's activations and saves a product and the softmax. Of those
# that see more, only some weights exist at a time.
KEPT_KEYS = 640

# The position of a key that is padding: after every query.
_NEVER = 2**30


def bias_of(distance: Tensor, dtype: torch.dtype, window: int | None) -> Tensor:
    """What is added to scores, by how many positions each key comes before its query: 0 for a key
    that is seen, else minus infinity. `window` counts the keys a query sees, itself included.
    """
    hidden = distance < 0
    if window is not None:
        hidden |= distance >= window
    bias = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device)
    return bias.masked_fill_(hidden, float("-inf"))


@dataclass(frozen=True, slots=True)
class Bucket:
    """`n` blocks of up to `L` queries and `K` keys.

    `queries` [n * L] and `keys` [n * K] are places in the row; `real` [n, L] is 0 for queries that
    are padding, else 1; `padded` says whether there are any. `distance` [n, L, K] is by how many
    positions a key comes before a query, negative for keys that come after it or are padding.
    """

    shape: tuple[int, int, int]
    queries: Tensor
    keys: Tensor
    distance: Tensor
    real: Tensor
    padded: bool
    _rows: dict[int, Tensor] = field(default_factory=dict)
    _biases: dict[tuple[torch.dtype, int | None], Tensor] = field(default_factory=dict)

    def rows_of_queries(self, groups: int, length: int) -> Tensor:
        """[n * groups * L]: where the queries are once more, among `groups` rows of `length` tokens
        one after the other; each block asks in all of them.
        """
        if groups not in self._rows:
            blocks = self.queries.view(self.shape[0], 1, -1)
            first = torch.arange(groups, device=blocks.device)[:, None] * length
            self._rows[groups] = (blocks + first).flatten()
        return self._rows[groups]

    @property
    def kept(self) -> int:
        """Of how many scores a query head keeps the weights for the backward pass."""
        return math.prod(self.shape)

    def bias(self, dtype: torch.dtype, window: int | None) -> Tensor:
        """What is added to the scores [n, L, K]: 0 for a key that is seen, else minus infinity.

        `window` counts the keys a query sees, itself included.
        """
        key = (dtype, window)
        if key not in self._biases:
            self._biases[key] = bias_of(self.distance, dtype, window)
        return self._biases[key]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A long segment, which lies at `queries` of the row: its first token has the position `first`.
    It sees what lies at `keys`, in the order of their positions from 0 on, up to its own tokens.
    """

    queries: slice
    keys: slice | Tensor
    first: int


@dataclass(slots=True, weakref_slot=True)
class Layout:
    """The blocks of one row of `length` tokens. `gather` [length] are the places of the row's
    tokens in the buckets' queries, one bucket after the other, and 0 for tokens of the `stretches`.
    `documents` are the lengths of documents that lie one after the other and share nothing; None
    where some do share. `longest` counts the tokens of the longest document.
    """

    forest: Forest
    longest: int
    buckets: tuple[Bucket, ...]
    stretches: tuple[Stretch, ...]
    gather: Tensor
    documents: tuple[int, ...] | None
    number: int = field(default_factory=count().__next__)
    _results: dict[int, Tensor] = field(default_factory=dict)
    _cut: Layout | None = None

    @property
    def length(self) -> int:
        return len(self.forest.tokens)

    def in_buckets(self) -> Layout:
        """The same without stretches, for who computes nothing but blocks."""
        if not self.stretches:
            return self
        if self._cut is None:
            self._cut = plan_layout(self.forest, self.gather.device, cut=True)
        return self._cut

    @property
    def kept(self) -> int:
        """Of how many scores a query head keeps the weights for the backward pass."""
        return sum(bucket.kept for bucket in self.buckets)

    def rows_of_results(self, groups: int) -> Tensor:
        """[groups * length]: where the tokens' results are when every block has those of `groups`
        rows, see `Bucket.rows_of_queries`.
        """
        if groups not in self._results:
            asked = torch.cat([each.rows_of_queries(groups, self.length) for each in self.buckets])
            real = [each.real.bool()[:, None].expand(-1, groups, -1) for each in self.buckets]
            places = torch.cat([each.flatten() for each in real]).nonzero().flatten()
            rows = places.new_zeros(groups * self.length)
            rows[asked[places]] = places
            self._results[groups] = rows
        return self._results[groups]

    def handle(self) -> Tensor:
        """What a compiled graph can carry instead of this object, and keeps it alive: see
        `layout_of`. Its length is that of what is kept: see `kept_of`.
        """
        _layouts[self.number] = self
        handle = torch.tensor(self.number).expand(self.kept + _NEVER_SPECIAL)
        handle.finetune_layout = self
        return handle


# Compilers take lengths of 0 and 1 for constants.
_NEVER_SPECIAL = 2

_layouts: WeakValueDictionary[int, Layout] = WeakValueDictionary()


def layout_of(handle: Tensor) -> Layout:
    """The layout that gave `handle`, or the tensor that `handle` is a copy of."""
    return _layouts[int(handle[0])]


def kept_of(handle: Tensor) -> int:
    """`kept` of the layout that gave `handle`, which a compiler knows, too."""
    kept: int = handle.shape[0] - _NEVER_SPECIAL
    return kept


@dataclass(frozen=True, slots=True)
class _Block:
    queries: NDArray[np.int64]
    keys: NDArray[np.int64]
    first_position: int


def plan_layout(forest: Forest, device: torch.device, *, cut: bool = False) -> Layout:
    """The blocks of the row that `forest` lies in; `cut`: without stretches on CPUs, too."""
    in_blocks, stretches = [], []
    for segment in forest.segments:
        if device.type == "cpu" and not cut and segment.depth + segment.length > KEPT_KEYS:
            stretches.append(_stretch(segment, forest.segments, device))
        else:
            in_blocks += _blocks(segment, forest.segments)
    buckets, order = [], []
    for group in _alike(in_blocks):
        bucket, places = _bucket(group, device)
        buckets.append(bucket)
        order.append(places)
    # Where each token's query is: the inverse of where the real queries come from.
    places = np.concatenate([np.empty(0, dtype=np.int64), *order])
    real = np.flatnonzero(places >= 0)
    gather = np.zeros(len(forest.tokens), dtype=np.int64)
    gather[places[real]] = real
    alone = all(segment.parent == NO_PARENT for segment in forest.segments)
    return Layout(
        forest=forest,
        longest=max(len(rows) for rows in forest.rows),
        buckets=tuple(buckets),
        stretches=tuple(stretches),
        gather=torch.from_numpy(gather).to(device),
        documents=tuple(segment.length for segment in forest.segments) if alone else None,
    )


def _stretch(segment: Segment, segments: tuple[Segment, ...], device: torch.device) -> Stretch:
    own = slice(segment.start, segment.start + segment.length)
    if segment.parent == NO_PARENT:
        return Stretch(own, own, segment.depth)
    places = np.concatenate([*_before(segment, segments), np.arange(own.start, own.stop)])
    return Stretch(own, torch.from_numpy(places).to(device), segment.depth)


def _before(segment: Segment, segments: tuple[Segment, ...]) -> list[NDArray[np.int64]]:
    """Where the tokens lie that come before a segment in its documents, in order."""
    before = []
    above = segment.parent
    while above != NO_PARENT:
        ancestor = segments[above]
        before.append(np.arange(ancestor.start, ancestor.start + ancestor.length))
        above = ancestor.parent
    return before[::-1]


def _blocks(segment: Segment, segments: tuple[Segment, ...]) -> list[_Block]:
    before = _before(segment, segments)
    own = np.arange(segment.start, segment.start + segment.length)
    blocks = []
    for first in range(0, segment.length, BLOCK):
        last = first + BLOCK
        keys = np.concatenate([*before, own[:last]])
        blocks.append(_Block(own[first:last], keys, first_position=segment.depth + first))
    return blocks


def _alike(blocks: list[_Block]) -> list[list[_Block]]:
    """Blocks of like size together, the largest of each group first."""
    groups: list[list[_Block]] = []
    for block in sorted(blocks, key=lambda block: (-len(block.queries), -len(block.keys))):
        most = max(SMALL, PADDING * len(block.queries) * len(block.keys))
        for group in groups:
            queries, keys = len(group[0].queries), len(group[0].keys)
            together = (len(group) + 1) * queries * keys
            if len(block.keys) <= keys and queries * keys <= most and together <= TOGETHER:
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
        padded=bool((query_places < 0).any()),
    )
    return bucket, query_places.ravel()
