"""Attention per document: several documents in one row, each of which sees only itself.

The cost is the sum of the squared document lengths, and no mask is built. It is plugged into
transformers through its attention registry; whether an architecture computes the same with it is
proven in `probe.py`, not assumed.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, AttentionMaskInterface

NAME = "per_document"


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
    document_lengths: tuple[int, ...] | None = None,
    longest_document: int | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    is_causal: bool | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention inside each of `document_lengths`, which sum to the row's length T.

    Shapes: query [1, Hq, T, D], key and value [1, Hkv, T, D] with Hq a multiple of Hkv; the result
    is [1, T, Hq, D]. `sliding_window` counts the keys a query sees, itself included. Documents of
    up to `longest_document` tokens are to be possible, if that is more than the longest here.

    Raises:
        UnsupportedAttentionError: a mask, sink, score cap or non-causal attention is asked for.
    """
    if attention_mask is not None or s_aux is not None or softcap is not None:
        raise UnsupportedAttentionError("a mask, attention sinks or a score cap")
    if document_lengths is None or is_causal is False or not getattr(module, "is_causal", True):
        raise UnsupportedAttentionError("attention that is not causal within documents")
    longest = max(document_lengths)
    if sliding_window is None and _has_window_below(longest_document or longest, module):
        raise UnsupportedAttentionError("a sliding window that only the mask knows")
    if torch.is_autocast_enabled(query.device.type):
        # Rotary positions left query and key in float32. The stock kernel casts by itself, but the
        # one that knows documents is chosen by format here.
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
    if sliding_window is not None and longest <= sliding_window:
        sliding_window = None
    if query.is_cuda and query.dtype in (torch.float16, torch.bfloat16) and not dropout:
        return _varlen(query, key, value, document_lengths, scaling, sliding_window), None
    outputs = []
    for q, k, v in zip(
        *(tensor.split(document_lengths, dim=2) for tensor in (query, key, value)), strict=True
    ):
        mask = _window_mask(q.shape[2], sliding_window, q.device) if sliding_window else None
        outputs.append(
            scaled_dot_product_attention(
                q,
                k,
                v,
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=mask is None,
                scale=scaling,
                enable_gqa=q.shape[1] != k.shape[1],
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2).contiguous(), None


def _has_window_below(longest: int, module: nn.Module) -> bool:
    """Whether the configuration gives this layer a window that a document can be longer than.

    One that does not say which layers have the window may mean any of them.
    """
    config = getattr(module, "config", None)
    window = getattr(config, "sliding_window", None)
    types, layer = getattr(config, "layer_types", None), getattr(module, "layer_idx", None)
    if types is not None and layer is not None:
        sliding = types[layer] == "sliding_attention"
    else:
        sliding = window is not None and getattr(config, "use_sliding_window", True)
    return bool(sliding) and longest > (window or 0)


def _window_mask(length: int, window: int, device: torch.device) -> Tensor:
    distance = torch.arange(length, device=device)
    distance = distance[:, None] - distance[None, :]
    return (distance >= 0) & (distance < window)


def _varlen(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    document_lengths: tuple[int, ...],
    scaling: float | None,
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
        scale=scaling,
        window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    return output.unsqueeze(0)
