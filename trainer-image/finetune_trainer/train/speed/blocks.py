"""Attention over the buckets of a layout as plain batched products, for CPUs.

The stock kernel works document by document there and takes ten times as long on short ones. The
operator is opaque to a compiler: its shapes change with every row, its cost does not.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.library import custom_op

from finetune_trainer.train.speed.layout import Bucket, layout_of


def _block_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Tensor, scale: float, window: int
) -> Tensor:
    """softmax(scale · Q Kᵀ) V over what each query sees.

    Shapes: query [1, Hq, T, D], key and value [1, Hkv, T, D], the result [1, T, Hq, D]. `layout` is
    the handle of the row's; `window` counts the keys a query sees, itself included, 0: all.
    """
    plan = layout_of(layout)
    groups = query.shape[1] // key.shape[1]
    outputs = []
    for bucket in plan.buckets:
        q = _queries(query, bucket, groups)
        k = _keys(key, bucket)
        weights = _weights(q, k, bucket, scale, window)
        outputs.append(_as_rows(weights.to(value.dtype) @ _keys(value, bucket), bucket, groups))
    return torch.cat(outputs).index_select(0, plan.gather)[None]


def _shape_of_attention(
    query: Tensor, key: Tensor, value: Tensor, layout: Tensor, scale: float, window: int
) -> Tensor:
    batch, heads, length, width = query.shape
    return query.new_empty(batch, length, heads, width)


def _block_attention_backward(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Tensor,
    scale: float,
    window: int,
) -> tuple[Tensor, Tensor, Tensor]:
    plan = layout_of(layout)
    groups = query.shape[1] // key.shape[1]
    rows = gradient.shape[1]
    # Many queries share a key: what they say of it is added up in float32.
    key_sum = gradient.new_zeros(rows, key.shape[1] * key.shape[3], dtype=torch.float32)
    value_sum = torch.zeros_like(key_sum)
    query_rows = []
    by_head = gradient.transpose(1, 2)
    for bucket in plan.buckets:
        q, k, v = _queries(query, bucket, groups), _keys(key, bucket), _keys(value, bucket)
        weights = _weights(q, k, bucket, scale, window)
        out = _queries(by_head, bucket, groups)
        # Padding repeats some token's query: its gradient is not to count twice.
        out.unflatten(2, (groups, -1)).mul_(bucket.real.to(out.dtype)[:, None, None, :, None])
        given = weights.to(out.dtype).transpose(2, 3) @ out
        value_sum.index_add_(0, bucket.keys, _key_rows(given))
        inner = (out @ v.transpose(2, 3)).float()
        scores = torch._softmax_backward_data(inner, weights, -1, torch.float32)
        scores = scores.mul_(scale).to(out.dtype)
        query_rows.append(_as_rows(scores @ k, bucket, groups))
        key_sum.index_add_(0, bucket.keys, _key_rows(scores.transpose(2, 3) @ q))
    dq = torch.cat(query_rows).index_select(0, plan.gather)[None].transpose(1, 2)
    dk, dv = (
        each.to(key.dtype).view(1, rows, key.shape[1], key.shape[3]).transpose(1, 2)
        for each in (key_sum, value_sum)
    )
    return dq.contiguous(), dk.contiguous(), dv.contiguous()


def _shapes_of_gradients(
    gradient: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Tensor,
    scale: float,
    window: int,
) -> tuple[Tensor, ...]:
    return tuple(
        torch.empty_like(each, memory_format=torch.contiguous_format)
        for each in (query, key, value)
    )


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
    query, key, value, layout = ctx.saved_tensors
    gradients = _backward_op(gradient, query, key, value, layout, ctx.scale, ctx.window)
    return (*gradients, None, None, None)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    query, key, value, layout, ctx.scale, ctx.window = inputs
    ctx.save_for_backward(query, key, value, layout)


def _weights(q: Tensor, k: Tensor, bucket: Bucket, scale: float, window: int) -> Tensor:
    """[n, Hkv, G * L, K] in float32, from q [n, Hkv, G * L, D] and k [n, Hkv, K, D].

    Scores of a few dozen are common (an attention sink is one): in bfloat16 they would be off by
    tenths, and the weights by a tenth of their size.
    """
    n, length, keys = bucket.shape
    scores = (q.float() @ k.float().transpose(2, 3)).mul_(scale)
    bias = bucket.bias(scores.dtype, window or None)
    scores.view(n, -1, length, keys).add_(bias[:, None])
    return torch.softmax(scores, -1)


def _queries(tensor: Tensor, bucket: Bucket, groups: int) -> Tensor:
    """[1, Hq, T, D] → [n, Hkv, G * L, D], in memory of its own."""
    n, length, _ = bucket.shape
    _, heads, _, width = tensor.shape
    taken = tensor[0].transpose(0, 1).index_select(0, bucket.queries)
    taken = taken.view(n, length, heads // groups, groups, width).permute(0, 2, 3, 1, 4)
    return taken.reshape(n, heads // groups, groups * length, width)


def _keys(tensor: Tensor, bucket: Bucket) -> Tensor:
    """[1, Hkv, T, D] → [n, Hkv, K, D]."""
    n, _, keys = bucket.shape
    taken = tensor[0].transpose(0, 1).index_select(0, bucket.keys)
    return taken.view(n, keys, tensor.shape[1], tensor.shape[3]).transpose(1, 2)


def _as_rows(tensor: Tensor, bucket: Bucket, groups: int) -> Tensor:
    """[n, Hkv, G * L, D] → [n * L, Hq, D]."""
    n, length, _ = bucket.shape
    heads, width = tensor.shape[1], tensor.shape[3]
    apart = tensor.view(n, heads, groups, length, width).permute(0, 3, 1, 2, 4)
    return apart.reshape(n * length, heads * groups, width)


def _key_rows(tensor: Tensor) -> Tensor:
    """[n, Hkv, K, D] → [n * K, Hkv * D] in float32."""
    n, heads, keys, width = tensor.shape
    return tensor.transpose(1, 2).float().reshape(n * keys, heads * width)


block_attention = custom_op("finetune::block_attention", mutates_args=())(_block_attention)
block_attention.register_fake(_shape_of_attention)
block_attention.register_autograd(_backward, setup_context=_save)
_backward_op = custom_op("finetune::block_attention_backward", mutates_args=())(
    _block_attention_backward
)
_backward_op.register_fake(_shapes_of_gradients)
