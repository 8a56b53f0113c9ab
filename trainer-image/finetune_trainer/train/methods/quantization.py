"""A frozen base in 4-bit NormalFloat (NF4, QLoRA: Dettmers et al., arXiv:2305.14314), by
bitsandbytes.

Every linear layer is quantized but the output head, what is tied to it, and modules that are
trained whole. Blocks of 64 weights share a scale; the scales are quantized too, those of a whole
weight together. Belongs here: which weights, with which settings, when, and how they stay fit for
training. Does not: the adapters on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from bitsandbytes.functional import QuantState, dequantize_4bit, quantize_4bit
from bitsandbytes.nn.modules import Linear4bit, Params4bit
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D
from transformers.quantizers.base import get_keys_to_not_convert

BLOCK = 64
# A weight in 4 bits, a scale of 8 bits a block, and a scale of those in float32 every 256.
BYTES_PER_WEIGHT = 0.5 + 1 / BLOCK + 4 / (256 * BLOCK)


def quantized_linears(model: PreTrainedModel, kept: Sequence[str]) -> list[str]:
    """Names of the modules to quantize, of a model that is not quantized (it may be on torch's
    meta device); `kept` are names, or last parts of names, of modules that are not.
    """
    whole = {*get_keys_to_not_convert(model), *kept}
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear | Conv1D) and not _is_or_is_in(name, whole)
    ]


def nf4(directory: Path, kept: Sequence[str], dtype: torch.dtype) -> BitsAndBytesConfig:
    """What transformers quantizes the model in `directory` by while it loads; `kept` as for
    `quantized_linears`, `dtype` the format of matrix products.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(
            AutoConfig.from_pretrained(directory, local_files_only=True)
        )
    quantized = set(quantized_linears(model, kept))
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=[
            name
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and name not in quantized
        ],
    )


class UnquantizedWeight(Params4bit):
    """The weight of a layer of bitsandbytes whose values no one has read yet.

    It has the shape [bytes, 1] and the format of the packed one, and no memory.
    """

    source: Tensor

    @classmethod
    def of(cls, source: Tensor, layer: Linear4bit) -> UnquantizedWeight:
        """That of `layer`, to be made of `source`, [out, in]."""
        packed = torch.zeros((), dtype=torch.uint8).expand((source.numel() + 1) // 2, 1)
        weight = cls(packed, quant_type="nf4", blocksize=BLOCK, module=layer)
        weight.source = source
        return weight

    def quantized(self, dtype: torch.dtype, device: torch.device) -> Tensor:
        """The packed weight, as whoever loads it in `dtype` has it, on `device`. The layer keeps
        its scales and finds them there when it meets the weight.
        """
        weight = self.source.to(device, dtype).contiguous()
        packed, self.module.quant_state = _quantize(weight)
        return packed


def quantize_later(model: PreTrainedModel, kept: Sequence[str], dtype: torch.dtype) -> None:
    """Put layers of bitsandbytes in the place of linear ones of `model`, which may be mapped:
    their weights are `UnquantizedWeight`s. `kept` as for `quantized_linears`, `dtype` the format of
    matrix products.
    """
    for name in quantized_linears(model, kept):
        plain = model.get_submodule(name)
        source = plain.weight.detach()
        if isinstance(plain, Conv1D):
            source = source.T
        made: Callable[..., Linear4bit] = Linear4bit
        with torch.device("meta"):
            layer = made(source.shape[1], source.shape[0], bias=False, compute_dtype=dtype)
        layer.weight = UnquantizedWeight.of(source, layer)
        layer.bias = plain.bias
        model.set_submodule(name, layer.train(plain.training))
    # PEFT asks for it.
    model.is_loaded_in_4bit = True
    keep_trainable(model)


def keep_trainable(model: nn.Module) -> None:
    """Pin the layout of quantized weights that gradients are computed with.

    On a CPU with bfloat16 instructions bitsandbytes 0.50 packs them anew, for inference, in the
    first forward pass without gradients and never undoes it: backward passes after an evaluation
    would be wrong without a word.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False


def place_scales(model: nn.Module, device: torch.device) -> None:
    """Bring the scales of quantized weights to `device`, where they are computed with, and let the
    layers keep them: the weights may become slices, which know nothing of them.
    """
    for module in model.modules():
        if isinstance(module, Linear4bit) and module.quant_state is not None:
            module.quant_state.to(device)


def plain(weight: Tensor) -> Tensor:
    """Its values alone, of a class of torch's own."""
    with torch._C.DisableTorchFunctionSubclass():
        return weight.detach()


def rounded_to_nf4(weight: Tensor) -> Tensor:
    """What training computed with in place of `weight`, in its dtype and shape [out, in]."""
    quantized, state = _quantize(weight.contiguous())
    return dequantize_4bit(quantized, state).to(weight.dtype)


def _quantize(weight: Tensor) -> tuple[Tensor, QuantState]:
    packed: Tensor
    packed, state = quantize_4bit(
        weight, blocksize=BLOCK, compress_statistics=True, quant_type="nf4"
    )
    return packed, state


def _is_or_is_in(name: str, modules: set[str]) -> bool:
    """Whether it is one of `modules`, by its whole name or its end, or a part of one."""
    parts = name.split(".")
    ends = (".".join(parts[:stop]) for stop in range(1, len(parts) + 1))
    return any(end == module or end.endswith(f".{module}") for end in ends for module in modules)
