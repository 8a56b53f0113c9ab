"""LoRA over a bfloat16 base without losing small updates to rounding.

Adding the adapter's product to a base output that is already rounded to bfloat16 drops every update
below half a unit in its last place, and early in training nearly all are. Here both products share
one accumulation and are rounded once. Over a float32 base PEFT's own forward pass is right and
stays.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn.functional import linear

ADAPTER = "default"


def round_once(model: nn.Module) -> int:
    """Give every LoRA layer over a bfloat16 linear base the forward pass of this file; how many."""
    layers = [
        module
        for module in model.modules()
        if isinstance(module, LoraLinear)
        and not module.lora_variant
        and type(module.base_layer) is nn.Linear
        and module.base_layer.weight.dtype is torch.bfloat16
    ]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def _forward(layer: Any, x: Tensor) -> Tensor:
    if layer.disable_adapters or layer.merged:
        return layer.base_layer(x)
    low = layer.lora_A[ADAPTER](layer.lora_dropout[ADAPTER](x.float())) * layer.scaling[ADAPTER]
    base = layer.base_layer
    output: Tensor = _OneAccumulation.apply(
        x, low, base.weight, base.bias, layer.lora_B[ADAPTER].weight
    )
    return output


class _OneAccumulation(Function):  # type: ignore[misc]  # torch is not type-checked
    """`x Wᵀ + low Bᵀ + bias` as one product, `[x, low] [W, B]ᵀ`; W and bias are frozen.

    Shapes: x [..., in] and the result [..., out] in the base's format; low [..., r] and B [out, r]
    in float32, whose gradients are float32 too.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, low: Tensor, weight: Tensor, bias: Tensor | None, up: Tensor
    ) -> Tensor:
        ctx.save_for_backward(low, weight, up)
        joined = torch.cat([x, low.to(x.dtype)], dim=-1)
        return linear(joined, torch.cat([weight, up.to(weight.dtype)], dim=1), bias)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        low, weight, up = ctx.saved_tensors
        gradient32 = gradient.float()
        rows = gradient32.flatten(0, -2)
        return (
            gradient @ weight if ctx.needs_input_grad[0] else None,
            gradient32 @ up,
            None,
            None,
            rows.T @ low.flatten(0, -2),
        )
