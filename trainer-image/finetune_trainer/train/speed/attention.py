"""Attention per document: several documents in one row, each of which sees only itself.

Token i sees S(i), the tokens of its document up to itself, and with D the width of a head

    o_i = Σ_{j ∈ S(i)} p_ij v_j,    p_i = softmax_{j ∈ S(i)}(q_i · k_j / √D),

as Krell et al. (arXiv:2107.02027) ask of packed documents, there with a mask. The cost is what the
tokens see, and no mask of the row's square is built. It is plugged into transformers through its
attention registry; whether an architecture computes the same with it is proven in `probe.py`, not
assumed. Which token sees which is planned in `layout.py`.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

from finetune_trainer.train.speed.blocks import block_attention
from finetune_trainer.train.speed.layout import Bucket, Layout, layout_of
from finetune_trainer.train.speed.techniques import enabled

NAME = "per_document"
BLOCKS = enabled("attention")


class UnsupportedAttentionError(Exception):
    """The architecture asks for something that per-document attention does not compute."""


def register() -> None:
    """Make `NAME` known to transformers; the mask function says that no mask is wanted."""
    AttentionInterface.register(NAME, per_document_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    return None


def per_document_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Tensor | None = None,
    longest_document: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each document of the row that `layout` is the handle of.

    Shapes: query [1, Hq, T, D], key and value [1, Hkv, T, D] with Hq a multiple of Hkv; the result
    is [1, T, Hq, D]. `sliding_window` counts the keys a query sees, itself included. Documents of
    up to `longest_document` tokens are to be possible, if that is more than the longest here.

    Raises:
        UnsupportedAttentionError: a mask, sink, score cap or non-causal attention is asked for.
    """
    if attention_mask is not None or s_aux is not None or softcap is not None:
        raise UnsupportedAttentionError("a mask, attention sinks or a score cap")
    if layout is None or is_causal is False or not getattr(module, "is_causal", True):
        raise UnsupportedAttentionError("attention that is not causal within documents")
    if longest_document is not None and sliding_window is None:
        _require_no_hidden_window(longest_document, module)
    if torch.is_autocast_enabled(query.device.type):
        # Rotary positions left query and key in float32. The stock kernel casts by itself, but the
        # one that knows documents is chosen by format here.
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    query, key = query.to(value.dtype), key.to(value.dtype)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.device.type == "cpu" and not dropout and BLOCKS:
        output: Tensor = block_attention(query, key, value, layout, scale, sliding_window or 0)
        return output, None
    plan = layout_of(layout)
    if sliding_window is not None and plan.longest <= sliding_window:
        sliding_window = None
    low = query.dtype in (torch.float16, torch.bfloat16)
    if query.is_cuda and low and not dropout and plan.documents is not None:
        return _varlen(query, key, value, plan.documents, scale, sliding_window), None
    return _bucket_by_bucket(
        query, key, value, plan.in_buckets(), scale, sliding_window, dropout
    ), None


def _require_no_hidden_window(longest: int, module: nn.Module) -> None:
    """A layer whose configuration gives it a window that a document can be longer than, but that
    does not ask for one, leaves it to the mask.
    """
    config = getattr(module, "config", None)
    window = getattr(config, "sliding_window", None)
    types, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if types is not None and layer is not None:
        sliding = types[layer] == "sliding_attention"
    else:
        # One that does not say which layers have the window may mean any of them.
        sliding = window is not None and getattr(config, "use_sliding_window", True)
    if sliding and longest > (window or 0):
        raise UnsupportedAttentionError("a sliding window that only the mask knows")


def _bucket_by_bucket(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    layout: Layout,
    scale: float,
    window: int | None,
    dropout: float,
) -> Tensor:
    """The stock kernel on every bucket, masked: for accelerators, and for dropout."""
    outputs = [
        scaled_dot_product_attention(
            _take(query, bucket.queries, bucket, 1),
            _take(key, bucket.keys, bucket, 2),
            _take(value, bucket.keys, bucket, 2),
            attn_mask=bucket.bias(query.dtype, window)[:, None],
            dropout_p=dropout,
            scale=scale,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        .transpose(1, 2)
        .flatten(0, 1)
        for bucket in layout.buckets
    ]
    return torch.cat(outputs).index_select(0, layout.gather)[None]


def _take(tensor: Tensor, places: Tensor, bucket: Bucket, length: int) -> Tensor:
    """[1, H, T, D] → [n, H, L or K, D]."""
    taken = tensor[0].index_select(1, places)
    return taken.unflatten(1, (bucket.shape[0], bucket.shape[length])).transpose(0, 1)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    document_lengths: tuple[int, ...],
    scale: float,
    sliding_window: int | None,
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # not in the CPU build

    starts = torch.tensor((0, *document_lengths), dtype=torch.int32).cumsum(0, dtype=torch.int32)
    starts = starts.to(query.device, non_blocking=True)
    longest = max(document_lengths)
    output = varlen_attn(
        *(tensor[0].transpose(0, 1) for tensor in (query, key, value)),
        starts,
        starts,
        longest,
        longest,
        scale=scale,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.unsqueeze(0)
