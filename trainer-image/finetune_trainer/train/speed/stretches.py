"""Attention of a long segment, on CPUs: weights exist for some of its queries at a time.

The weights of some queries of one key head are written, used and forgotten while they are in a
core's cache, and the backward pass makes them again (Dao et al., arXiv:2205.14135). They are of the
model's format, as are the gradients of the scores. Both are differences: log p = s - log Σ exp s,
and dO Vᵀ - d. Rounded to bfloat16 before the difference is taken a score of 40 would be off by an
eighth, and its weight by as much. So the product itself subtracts: the left side has what is
subtracted in two more columns, a number of the format and the rest of it, and the right side has -1
there. Then a weight is off by the rounding of its own logarithm.

Which tokens are a stretch is planned in `layout.py`; shorter segments are the business of
`blocks.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from finetune_trainer.train.speed.layout import Stretch, bias_of

# Rows of weights at a time: G rows for each query. Of 2,000 keys more would leave the cache and
# compute more of what causality forbids, fewer would make many small products.
ROWS = 384


class _Tile(NamedTuple):
    """Some queries of a stretch and the keys that any of them sees: `rows` are theirs among the
    stretch's L * G rows, `keys` among its keys. `weights` and `other` [R, K] are memory; `bias` is
    added to the scores of the last keys, all others are seen by every query.
    """

    rows: slice
    keys: slice
    bias: Tensor
    weights: Tensor
    other: Tensor


def forward(
    query: Tensor, key: Tensor, value: Tensor, stretch: Stretch, scale: float, window: int
) -> tuple[Tensor, Tensor]:
    """softmax(scale · q kᵀ) v of a stretch [Hq, L, D], and 1 / scale of the logarithms of what its
    weights were divided by, [Hq, L] in float32; from [Hq or Hkv, T, D] of the whole row.
    """
    groups = len(query) // len(key)
    queries = _with_two(_rows(query, stretch, groups), 0.0)
    keys = _with_two(_seen(key, stretch), -1.0)
    values = _seen(value, stretch).contiguous()
    output = torch.empty_like(queries[..., :-2])
    shift = output.new_empty(output.shape[:2], dtype=torch.float32)
    for tile in _tiles(stretch, query, groups, window):
        for head, rows in enumerate(queries):
            q, k, v = rows[tile.rows], keys[head, tile.keys], values[head, tile.keys]
            torch.mm(q, k.T, out=tile.weights)
            _hide(tile, groups)
            # Near enough to the logarithm for what is left over to be small.
            top = tile.weights.amax(-1)
            q[:, -2] = top
            _weigh(q, k, scale, tile, groups)
            total = tile.weights.sum(-1, dtype=torch.float32)
            torch.div(tile.weights @ v, total[:, None], out=output[head, tile.rows])
            shift[head, tile.rows] = total.log_().div_(scale).add_(top)
    return _by_head(output, groups), _by_head(shift, groups)


def backward(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gradient: Tensor,
    output: Tensor,
    shifts: Tensor,
    stretch: Stretch,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """1 / scale of the gradients of q [Hq, L, D] and k, and that of v, [Hkv, K, D] in float32, from
    those of the result, [Hq, T, D] as the result is, and what `forward` said of the rows, [Hq, T].
    """
    groups = len(query) // len(key)
    queries = _with_difference(_rows(query, stretch, groups), _rows(shifts, stretch, groups))
    keys, values = (_with_two(_seen(each, stretch), -1.0) for each in (key, value))
    given = _rows(gradient, stretch, groups)
    sums = (given.float() * _rows(output, stretch, groups)).sum(-1)
    given = _with_difference(given, sums)
    d_query = torch.empty_like(queries[..., :-2])
    narrow = keys[..., :-2].contiguous()
    d_key, d_value = (
        key.new_zeros(len(key), key.shape[2], keys.shape[1], dtype=torch.float32) for _ in range(2)
    )
    for tile in _tiles(stretch, query, groups, window):
        for head in range(len(key)):
            q, out = queries[head, tile.rows], given[head, tile.rows]
            k, v = keys[head, tile.keys], values[head, tile.keys]
            _weigh(q, k, scale, tile, groups)
            d_value[head, :, tile.keys] += out[:, :-2].T.contiguous() @ tile.weights
            torch.mm(out, v.T, out=tile.other).mul_(tile.weights)
            torch.mm(tile.other, narrow[head, tile.keys], out=d_query[head, tile.rows])
            d_key[head, :, tile.keys] += q[:, :-2].T.contiguous() @ tile.other
    return _by_head(d_query, groups), d_key.mT, d_value.mT


def _tiles(stretch: Stretch, query: Tensor, groups: int, window: int) -> Iterator[_Tile]:
    length = stretch.queries.stop - stretch.queries.start
    step = max(1, ROWS // groups)
    memory = query.new_empty(2, min(step, length) * groups * (stretch.first + length))
    for start in range(0, length, step):
        stop = min(start + step, length)
        first, last = stretch.first + start, stretch.first + stop
        seen = slice(max(0, first + 1 - window) if window else 0, last)
        rows, keys = (stop - start) * groups, last - seen.start
        weights, other = (each[: rows * keys].view(rows, keys) for each in memory)
        bias = _bias(stop - start, keys if window else stop - start, window, query.dtype)
        yield _Tile(slice(start * groups, stop * groups), seen, bias, weights, other)


@lru_cache(maxsize=64)
def _bias(queries: int, keys: int, window: int, dtype: torch.dtype) -> Tensor:
    """`bias_of` consecutive queries and keys, [queries, keys]; the last query is the last key."""
    distance = torch.arange(queries)[:, None] - torch.arange(keys) + keys - queries
    return bias_of(distance, dtype, window or None)


def _hide(tile: _Tile, groups: int) -> None:
    queries, columns = tile.bias.shape
    tile.weights.view(queries, groups, -1)[..., -columns:].add_(tile.bias[:, None])


def _weigh(q: Tensor, k: Tensor, scale: float, tile: _Tile, groups: int) -> None:
    torch.addmm(tile.weights, q, k.T, beta=0, alpha=scale, out=tile.weights)
    _hide(tile, groups)
    tile.weights.exp_()


def _rows(tensor: Tensor, stretch: Stretch, groups: int) -> Tensor:
    """The stretch's part of [Hkv * G, T, ...] as [Hkv, L * G, ...]."""
    part = tensor[:, stretch.queries].unflatten(0, (-1, groups))
    return part.transpose(1, 2).flatten(1, 2)


def _by_head(rows: Tensor, groups: int) -> Tensor:
    """[Hkv, L * G, ...] → [Hkv * G, L, ...]."""
    return rows.unflatten(1, (-1, groups)).transpose(1, 2).flatten(0, 1)


def _seen(tensor: Tensor, stretch: Stretch) -> Tensor:
    """The keys' part of [Hkv, T, D] as [Hkv, K, D]."""
    if isinstance(stretch.keys, slice):
        return tensor[:, stretch.keys]
    return tensor.index_select(1, stretch.keys)


def _with_two(tensor: Tensor, value: float) -> Tensor:
    """[..., D + 2] of [..., D]: two columns of `value`."""
    return torch.cat([tensor, tensor.new_full((*tensor.shape[:-1], 2), value)], -1)


def _with_difference(tensor: Tensor, subtracted: Tensor) -> Tensor:
    """[..., D + 2] of [..., D]: what is `subtracted` [...] as the format holds it, and the rest."""
    rounded = subtracted.to(tensor.dtype)
    rest = (subtracted - rounded).to(tensor.dtype)
    return torch.cat([tensor, rounded[..., None], rest[..., None]], -1)
