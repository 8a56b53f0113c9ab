"""LoRA as one operator: few passes over memory, and small updates not lost to rounding.

Of x [..., in], W [out, in] and b [out] frozen, A [r, in] and B [out, r] trained, with g = dL/dy,

    y = x Wᵀ + s (x Aᵀ) Bᵀ + b                          (Hu et al., arXiv:2106.09685, equation 3)
    dL/dx = g W + s (g B) A,    dL/dA = s (g B)ᵀ x,    dL/dB = s gᵀ (x Aᵀ).

PEFT adds the adapter's product to the base's output in passes of their own, which keep copies of
the input and drop, where that output is bfloat16 already, every update below half a unit in its
last place; early in training nearly all are. Here both products share one accumulation and are
rounded once, and the backward pass forms both gradients of the input in one product too.

In bfloat16 the base's weight and the adapter's B lie side by side in one matrix, `[W, s·B]`: see
`extend`. The operator is opaque to a compiler, which fuses what is around it.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.library import custom_op
from torch.nn.functional import linear
from transformers import PreTrainedModel

ADAPTER = "default"
_EXTENDED = "_finetune_extended"


def fusible(model: nn.Module) -> list[LoraLinear]:
    """Its plain LoRA layers over a frozen linear base.

    What is not plain (DoRA, quantized bases, biases of adapters) keeps PEFT's forward pass.
    """
    return [
        module
        for module in model.modules()
        if isinstance(module, LoraLinear)
        and type(module.base_layer) is nn.Linear
        and not module.lora_variant
        and not module.lora_bias.get(ADAPTER, False)
    ]


def fuse(model: nn.Module) -> list[LoraLinear]:
    """Give every layer that is `fusible` the forward pass of this file."""
    layers = fusible(model)
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return layers


def use_fused_lora(model: PreTrainedModel) -> None:
    """All of this file for `model`, which its engine has placed."""
    extend(fuse(model))


def extend(layers: list[LoraLinear]) -> None:
    """Keep `[W, s·B]` of the bfloat16 layers as one matrix, of which W is a view from now on.

    It costs rank / in of the weights' memory, and saves putting the two together in every pass.
    Weights of which this rank has only a part stay as they are.
    """
    for layer in layers:
        base, rank = layer.base_layer, layer.r[ADAPTER]
        rows, columns = base.out_features, base.in_features
        whole = not isinstance(base.weight, DTensor) and base.weight.shape == (rows, columns)
        if base.weight.dtype is not torch.bfloat16 or not whole:
            continue
        extended = base.weight.new_empty(rows, columns + rank)
        extended[:, :columns] = base.weight.data
        base.weight.data = extended[:, :columns]
        setattr(layer, _EXTENDED, extended)


def _forward(layer: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    base = layer.base_layer
    if layer.disable_adapters or layer.merged:
        return base(x)
    dropout = layer.lora_dropout[ADAPTER]
    dropped = dropout(x) if dropout.training and not isinstance(dropout, nn.Identity) else None
    output: Tensor
    output, _ = lora_linear(
        x,
        dropped,
        base.weight if (extended := getattr(layer, _EXTENDED, None)) is None else extended,
        base.bias,
        layer.lora_A[ADAPTER].weight,
        layer.lora_B[ADAPTER].weight,
        layer.scaling[ADAPTER],
    )
    return output


def _lora_linear(
    x: Tensor,
    dropped: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """`x Wᵀ + s (d Aᵀ) Bᵀ + bias`, and `d Aᵀ`, where d is `dropped`, or x without dropout.

    Shapes: x and d [..., in], W [out, in] or, extended, [out, in + r], A [r, in], B [out, r]; the
    results are [..., out] and [tokens, r], in the format of x. W and bias are frozen. What an
    extended W holds of B is written here.
    """
    rows = x.flatten(0, -2)
    low = (rows if dropped is None else dropped.flatten(0, -2)) @ down.to(x.dtype).T
    if x.dtype is torch.float32:
        output = linear(rows, weight, bias).addmm_(low, up.T, alpha=scale)
    else:
        joined = weight
        if weight.shape[1] > x.shape[-1]:
            # Through `.data`, because passes that wait for their backward pass keep the matrix, and
            # B is the same for all of a step.
            joined.data[:, x.shape[-1] :] = up * scale
        else:
            joined = torch.cat([weight, (up * scale).to(weight.dtype)], dim=1)
        output = linear(torch.cat([rows, low], dim=1), joined, bias)
    return output.view(*x.shape[:-1], -1), low


def _shapes_of_results(
    x: Tensor,
    dropped: Tensor | None,
    weight: Tensor,
    bias: Tensor | None,
    down: Tensor,
    up: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    output = x.new_empty(*x.shape[:-1], weight.shape[0])
    return output, x.new_empty(x.flatten(0, -2).shape[0], down.shape[0])


def _lora_linear_backward(
    gradient: Tensor,
    x: Tensor,
    dropped: Tensor | None,
    low: Tensor,
    weight: Tensor,
    down: Tensor,
    up: Tensor,
    scale: float,
    wants_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows, given = x.flatten(0, -2), gradient.flatten(0, -2)
    inputs = x.shape[-1]
    extended = wants_input and weight.shape[1] > inputs
    both = given @ weight if wants_input else given.new_empty(0, inputs)
    # dL/d(d Aᵀ), [tokens, r]
    inner = both[:, inputs:] if extended else given @ (up * scale).to(x.dtype)
    outer = both[:, :inputs] if extended else both
    through = inner @ down.to(x.dtype) if dropped is not None else inner.new_empty(0)
    if wants_input and dropped is None:
        outer = torch.addmm(outer, inner, down.to(x.dtype))
    d_down = inner.T @ (rows if dropped is None else dropped.flatten(0, -2))
    d_up = given.T @ low
    return (
        (outer.reshape(x.shape) if wants_input else outer.contiguous()),
        through.view(x.shape) if dropped is not None else through,
        d_down.to(down.dtype),
        d_up.to(up.dtype).mul_(scale),
    )


def _shapes_of_gradients(
    gradient: Tensor,
    x: Tensor,
    dropped: Tensor | None,
    low: Tensor,
    weight: Tensor,
    down: Tensor,
    up: Tensor,
    scale: float,
    wants_input: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = x.new_empty(x.shape)
    return (
        like if wants_input else x.new_empty(0, x.shape[-1]),
        torch.empty_like(like) if dropped is not None else x.new_empty(0),
        torch.empty_like(down),
        torch.empty_like(up),
    )


def _backward(ctx: Any, gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
    x, dropped, low, weight, down, up = ctx.saved_tensors
    wants_input = ctx.needs_input_grad[0]
    d_x, d_dropped, d_down, d_up = _backward_op(
        gradient, x, dropped, low, weight, down, up, ctx.scale, wants_input
    )
    return (
        d_x if wants_input else None,
        d_dropped if dropped is not None else None,
        None,
        None,
        d_down,
        d_up,
        None,
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, dropped, weight, _, down, up, ctx.scale = inputs
    ctx.save_for_backward(x, dropped, output[1], weight, down, up)


lora_linear = custom_op("finetune::lora_linear", mutates_args=())(_lora_linear)
lora_linear.register_fake(_shapes_of_results)
lora_linear.register_autograd(_backward, setup_context=_save)
_backward_op = custom_op("finetune::lora_linear_backward", mutates_args=())(_lora_linear_backward)
_backward_op.register_fake(_shapes_of_gradients)
