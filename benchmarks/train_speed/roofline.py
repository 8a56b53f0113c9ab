"""How fast this machine could be: its matrix product rate at the model's shapes, and the work that
a step needs at the least.

Needed is, counted as floating-point operations of matrix products (a multiply-add is two): every
token of the data set once through every layer, forward and back to the activations, LoRA's own
products with their weight gradients, causal attention within each sequence, and the output head,
forward and back, on supervised positions alone. Nothing that a trainer may do on top counts:
padding, masks, scores of unsupervised positions, recomputation. In preference training the
reference's forward pass counts as well. Sharing a prefix is work not done that the count does
not know, so the share of the roofline can exceed 1.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig


@dataclass(frozen=True, slots=True)
class Shape:
    """Of a decoder: `linears` are the (in, out) of one layer's linear modules."""

    layers: int
    heads: int
    head_size: int
    hidden: int
    vocabulary: int
    linears: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, model: Path) -> Shape:
        config: Any = AutoConfig.from_pretrained(model)
        hidden, heads = config.hidden_size, config.num_attention_heads
        head_size = getattr(config, "head_dim", None) or hidden // heads
        queries, keys = heads * head_size, config.num_key_value_heads * head_size
        middle = config.intermediate_size
        return cls(
            layers=config.num_hidden_layers,
            heads=heads,
            head_size=head_size,
            hidden=hidden,
            vocabulary=config.vocab_size,
            linears=(
                (hidden, queries),
                (hidden, keys),
                (hidden, keys),
                (queries, hidden),
                (hidden, middle),
                (hidden, middle),
                (middle, hidden),
            ),
        )


def needed(
    shape: Shape, lengths: Sequence[int], supervised: int, *, rank: int, preference: bool = False
) -> float:
    """FLOPs of one step over sequences of these `lengths`, `supervised` of whose tokens are
    predicted.
    """
    tokens = sum(lengths)
    base = 2.0 * shape.layers * sum(a * b for a, b in shape.linears) * tokens
    lora = 2.0 * shape.layers * sum(rank * (a + b) for a, b in shape.linears) * tokens
    # Scores and weighted sum, 2 l^2 d each without the causal half.
    attention = shape.layers * shape.heads * shape.head_size * 2.0 * sum(n * n for n in lengths)
    head = 2.0 * shape.hidden * shape.vocabulary * supervised
    trained = 2 * base + 3 * lora + 3 * attention + 2 * head
    return trained + (base + attention + head if preference else 0.0)


def gemm_rate(shape: Shape, dtype: torch.dtype, rows: int, seconds: float = 1.0) -> float:
    """FLOP/s of one layer's products and a slice of the head's, forward and back, on `rows` tokens.

    The best of several passes: what the machine can do, not what it happened to do.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    products = []
    for inner, outer in (*shape.linears, (shape.hidden, min(shape.vocabulary, 8192))):
        x = torch.randn(rows, inner, device=device).to(dtype)
        weight = torch.randn(outer, inner, device=device).to(dtype)
        y = torch.randn(rows, outer, device=device).to(dtype)
        products += [(x, weight.T), (y, weight)]
    work: float = sum(2.0 * a.shape[0] * a.shape[1] * b.shape[1] for a, b in products)
    best, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        _wait_for_device()
        started = time.perf_counter()
        for a, b in products:
            torch.mm(a, b)
        _wait_for_device()
        best = min(best, time.perf_counter() - started)
    return work / best


def _wait_for_device() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
