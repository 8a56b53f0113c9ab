"""Attention over the buckets of a layout as plain batched products, for CPUs.

The stock kernel works document by document there and takes ten times as long on short ones. The
operator is opaque to a compiler: its shapes change with every row, its cost does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from finetune_trainer.train.speed import stretches
from finetune_trainer.train.speed.layout import Bucket, Layout, kept_of, layout_of

# Scores of all heads that are computed at a time, 2 MB of them: see `layout.TOGETHER`.
AT_A_TIME = 2**19


def block_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Tensor, scale: float, window: int
) -> Tensor:
    """softmax(scale · Q Kᵀ) V over what each query sees.

    Shapes: query [1, Hq, T, D], key and value [1, Hkv, T, D], the result [1, T, Hq, D]. `layout` is
    the handle of the row's; `window` counts the keys a query sees, itself included, 0: all.
    """
    trained = query.requires_grad or key.requires_grad or value.requires_grad
    keep = torch.is_grad_enabled() and trained
    output: Tensor
    output, *_ = _forward_op(query, key, value, layout, scale, window, keep)
    return output


def _block_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Tensor,
    scale: float,
    window: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The result; with `keep` the weights of blocks, one bucket after the other; and [Hq, T] in
    float32 what `stretches.py` says of its rows.
    """
    plan = layout_of(layout)
    groups = query.shape[1] // key.shape[1]
    kept = query.new_empty(query.shape[1] * kept_of(layout) if keep else 0)
    rows = [_by_key_head(each, key.shape[1]) for each in (query, key, value)]
    outputs = []
    for bucket, memory in zip(plan.buckets, _memory(kept, plan, query, key), strict=True):
        q, k, v = _take(bucket, rows, groups)
        output = torch.empty_like(q)
        for some in _heads_at_a_time(bucket, q):
            weights = _weights(q[some], k[some], bucket, scale, window)
            rounded = weights.to(v.dtype) if memory is None else memory[some].copy_(weights)
            output[some] = rounded @ v[some]
        outputs.append(output.flatten(1, 2))
    result = _in_order(outputs, plan, query).transpose(1, 2).contiguous()
    shifts = query.new_zeros(query.shape[1:3], dtype=torch.float32)
    for stretch in plan.stretches:
        place = stretch.queries
        output, shifts[:, place] = stretches.forward(
            query[0], key[0], value[0], stretch, scale, window
        )
        result[0, place] = output.transpose(0, 1)
    return result, kept, shifts


def _shapes_of_results(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Tensor,
    scale: float,
    window: int,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, heads, length, width = query.shape
    kept = query.new_empty(heads * kept_of(layout) if keep else 0)
    shifts = query.new_empty(heads, length, dtype=torch.float32)
    return query.new_empty(batch, length, heads, width), kept, shifts


def _block_attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    kept: Tensor,
    shifts: Tensor,
    layout: Tensor,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of query, key and value, in their shapes, from that of the result, O = P V: per
    block dV = Pᵀ dO, dS = P ∘ (dO Vᵀ - rowsum(P ∘ dO Vᵀ)), dQ = scale dS K, dK = scale dSᵀ Q.
    """
    plan = layout_of(layout)
    length, key_heads, width = key.shape[2], key.shape[1], key.shape[3]
    groups = query.shape[1] // key_heads
    # Many queries share a key: what they say of it is added up in float32.
    key_sum = gradient.new_zeros(length, key_heads * width, dtype=torch.float32)
    value_sum = torch.zeros_like(key_sum)
    rows = [_by_key_head(each, key_heads) for each in (query, key, value)]
    given_rows = _by_key_head(gradient.transpose(1, 2), key_heads)
    query_rows = []
    for bucket, weights in zip(plan.buckets, _memory(kept, plan, query, key), strict=True):
        assert weights is not None
        q, k, v = _take(bucket, rows, groups)
        out = _rows_at(given_rows, bucket.rows_of_queries(groups, length), bucket)
        if bucket.padded:
            # Padding repeats some token's query: its gradient is not to count twice.
            out.unflatten(2, (groups, -1)).mul_(bucket.real.to(out.dtype)[:, None, :, None])
        dq, dk, dv = torch.empty_like(q), torch.empty_like(k), torch.empty_like(v)
        for some in _heads_at_a_time(bucket, q):
            dv[some] = weights[some].transpose(2, 3) @ out[some]
            inner = (out[some] @ v[some].transpose(2, 3)).float()
            scores = torch._softmax_backward_data(inner, weights[some].float(), -1, torch.float32)
            rounded = scores.to(out.dtype)
            dq[some] = rounded @ k[some]
            dk[some] = rounded.transpose(2, 3) @ q[some]
        query_rows.append(dq.flatten(1, 2))
        _add_rows(key_sum, bucket.keys, dk)
        _add_rows(value_sum, bucket.keys, dv)
    d_query = _in_order(query_rows, plan, query)
    for stretch in plan.stretches:
        d_query[0, :, stretch.queries], dk, dv = stretches.backward(
            query[0],
            key[0],
            value[0],
            gradient[0].transpose(0, 1),
            output[0].transpose(0, 1),
            shifts,
            stretch,
            scale,
            window,
        )
        _add_rows(key_sum, stretch.keys, dk[:, None])
        _add_rows(value_sum, stretch.keys, dv[:, None])
    d_key, d_value = (
        each.to(key.dtype).view(1, length, key_heads, width).transpose(1, 2).contiguous()
        for each in (key_sum.mul_(scale), value_sum)
    )
    return d_query.mul_(scale), d_key, d_value


def _shapes_of_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    output: Tensor,
    kept: Tensor,
    shifts: Tensor,
    layout: Tensor,
    scale: float,
    window: int,
) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(each, memory_format=torch.contiguous_format)
        for each in (query, key, value)
    )


def _backward(ctx: Any, gradient: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
    gradients = _backward_op(gradient, *ctx.saved_tensors, ctx.scale, ctx.window)
    return (*gradients, None, None, None, None)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, value, layout, ctx.scale, ctx.window, _ = inputs
    ctx.save_for_backward(query, key, value, *output, layout)


def _memory(kept: Tensor, plan: Layout, query: Tensor, key: Tensor) -> Iterator[Tensor | None]:
    """For each bucket its part of `kept` as [Hkv, n, G * L, K], or None if nothing is kept."""
    heads, key_heads, start = query.shape[1], key.shape[1], 0
    for bucket in plan.buckets:
        n, _, keys = bucket.shape
        size = heads * bucket.kept if len(kept) else 0
        part = kept[start : start + size]
        start += size
        yield part.view(key_heads, n, -1, keys) if size else None


def _in_order(rows: list[Tensor], plan: Layout, query: Tensor) -> Tensor:
    """What the buckets' queries have got, [Hkv, n * G * L, D] each, in the shape of `query`;
    anything for the tokens of stretches.
    """
    if not rows:
        return torch.empty_like(query, memory_format=torch.contiguous_format)
    groups = query.shape[1] // len(rows[0])
    return torch.cat(rows, 1).index_select(1, plan.rows_of_results(groups)).view(query.shape)


def _heads_at_a_time(bucket: Bucket, q: Tensor) -> list[slice]:
    """Which key heads go together."""
    key_heads, n, queries, _ = q.shape
    count = max(1, AT_A_TIME // (n * queries * bucket.shape[2]))
    return [slice(first, first + count) for first in range(0, key_heads, count)]


def _weights(q: Tensor, k: Tensor, bucket: Bucket, scale: float, window: int) -> Tensor:
    """[Hkv, n, G * L, K] in float32, from q [Hkv, n, G * L, D] and k [Hkv, n, K, D].

    Scores of a few dozen are common (an attention sink is one): in bfloat16 they would be off by
    tenths, and the weights by a tenth of their size.
    """
    n, length, keys = bucket.shape
    scores = q.float().mul_(scale) @ k.float().transpose(2, 3)
    bias = bucket.bias(scores.dtype, window or None)
    scores.view(len(q), n, -1, length, keys).add_(bias[:, None])
    return torch.softmax(scores, -1)


def _by_key_head(tensor: Tensor, key_heads: int) -> Tensor:
    """[1, Hkv * G, T, D] → [Hkv, G * T, D], in memory of its own: the queries of one key head lie
    together.
    """
    _, _, _, width = tensor.shape
    return tensor.reshape(key_heads, -1, width).contiguous()


def _take(bucket: Bucket, rows: list[Tensor], groups: int) -> tuple[Tensor, Tensor, Tensor]:
    """The blocks' q [Hkv, n, G * L, D], k and v [Hkv, n, K, D], from `rows` by key head."""
    query, key, value = rows
    asked = bucket.rows_of_queries(groups, key.shape[1])
    return (
        _rows_at(query, asked, bucket),
        _rows_at(key, bucket.keys, bucket),
        _rows_at(value, bucket.keys, bucket),
    )


def _rows_at(rows: Tensor, places: Tensor, bucket: Bucket) -> Tensor:
    """[Hkv, G * T, D] → [Hkv, n, length, D], the rows at `places` [n * length]."""
    return rows.index_select(1, places).unflatten(1, (bucket.shape[0], -1))


def _add_rows(total: Tensor, places: Tensor | slice, given: Tensor) -> None:
    """Add [Hkv, n, K, D] to the rows of `total` [T, Hkv * D], which is in float32."""
    heads, n, keys, width = given.shape
    if isinstance(places, slice):
        total[places].view(keys, heads, width).add_(given[:, 0].transpose(0, 1))
        return
    rows = total.new_empty(n, keys, heads, width).copy_(given.permute(1, 2, 0, 3))
    total.index_add_(0, places, rows.view(n * keys, heads * width))


_forward_op = custom_op("finetune::block_attention", mutates_args=())(_block_attention)
_forward_op.register_fake(_shapes_of_results)
_forward_op.register_autograd(_backward, setup_context=_save)
_backward_op = custom_op("finetune::block_attention_backward", mutates_args=())(
    _block_attention_backward
)
_backward_op.register_fake(_shapes_of_gradients)
