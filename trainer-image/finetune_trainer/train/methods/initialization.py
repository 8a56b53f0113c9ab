"""Adapters that begin as a part of the base's weights, which is taken out of them: PiSSA, OLoRA.

The frozen base becomes `W - scale * B0 A0`, so base and adapter together start as W. The first
adapter (A0, B0) is kept beside the checkpoints: a run that goes on has to take the very same one
out, and what is published is the difference to it, an adapter of twice the rank for the base as it
is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from peft.tuners.lora import Linear as LoraLinear
from peft.tuners.lora import LoraLayer
from peft.utils import SAFETENSORS_WEIGHTS_NAME
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Initialization
from finetune_trainer.train.methods.lora import ADAPTER, norms_in_float32
from finetune_trainer.train.parallel import Group
from finetune_trainer.workspace import atomic_directory

# Names of PEFT's `init_lora_weights`. PiSSA by sixteen iterations of a randomized SVD: within
# seconds where the exact one takes minutes.
_PEFT_NAMES = {Initialization.PISSA: "pissa_niter_16", Initialization.OLORA: "olora"}
_FILE = "initial.safetensors"


def starts_from_base(initialization: Initialization) -> bool:
    """Whether the adapters begin as a part of the base's weights."""
    return initialization in _PEFT_NAMES


def take_out_of_base(
    adapted: PeftModel, initialization: Initialization, directory: Path, group: Group
) -> None:
    """Give the adapters of `adapted`, all new, their values out of the base, and take them out of
    it: those in `directory` if an earlier attempt has left them there, else new ones (PiSSA: Meng
    et al., arXiv:2404.02948; OLoRA: Büyükakyüz, arXiv:2406.01775).

    Raises:
        UserError: a layer is of a kind that this is not known for.
    """
    file = directory / _FILE
    if group.is_main and not file.exists():
        with atomic_directory(directory) as new:
            save_file(_factors(adapted, _PEFT_NAMES[initialization]), new / _FILE)
    # All ranks take out what one has computed: another processor may round another way.
    group.barrier()
    initial = load_file(file)
    with torch.no_grad():
        for name, layer in _layers(adapted):
            for key, matrix in (("A", layer.lora_A[ADAPTER]), ("B", layer.lora_B[ADAPTER])):
                matrix.weight.copy_(initial[f"{name}.{key}"])
            weight = layer.base_layer.weight
            weight.copy_(weight.float() - layer.get_delta_weight(ADAPTER))
    norms_in_float32(adapted)


def for_the_whole_base(adapter: Path, initial: Path) -> None:
    """Make the adapter in the directory `adapter`, trained from the one in `initial`, one for the
    base as it was: `B A - B0 A0` is `[B, -B0] [A; A0]` (PEFT's `subtract_mutated_init`, which would
    drop what is trained beside the two).
    """
    first = load_file(initial / _FILE)
    tensors = load_file(adapter / SAFETENSORS_WEIGHTS_NAME)
    for key, tensor in tensors.items():
        name, _, part = key.removeprefix("base_model.model.").rpartition(".lora_")
        if part == "A.weight":
            tensors[key] = torch.cat([tensor, first[f"{name}.A"].to(tensor)], dim=0)
        elif part == "B.weight":
            tensors[key] = torch.cat([tensor, -first[f"{name}.B"].to(tensor)], dim=1)
    save_file(tensors, adapter / SAFETENSORS_WEIGHTS_NAME, metadata={"format": "pt"})
    config = LoraConfig.from_pretrained(str(adapter))
    # The product's weight is alpha / r, or alpha / sqrt(r), and stays as it was.
    config.lora_alpha *= 2**0.5 if config.use_rslora else 2
    config.r *= 2
    config.save_pretrained(str(adapter))


def _factors(adapted: PeftModel, name: str) -> dict[str, Tensor]:
    """A and B of every layer, float32 [r, in] and [out, r]; the base is left as it was."""
    factors: dict[str, Tensor] = {}
    with torch.no_grad():
        for module, layer in _layers(adapted):
            weight = layer.base_layer.weight
            before = weight.data.clone()
            if name == "olora":
                layer.olora_init(ADAPTER)
            else:
                layer.pissa_init(ADAPTER, name)
            weight.data = before
            for key, matrix in (("A", layer.lora_A[ADAPTER]), ("B", layer.lora_B[ADAPTER])):
                factors[f"{module}.{key}"] = matrix.weight.detach().float().cpu().contiguous()
    return factors


def _layers(adapted: PeftModel) -> Iterator[tuple[str, LoraLinear]]:
    for name, module in adapted.get_base_model().named_modules():
        if not isinstance(module, LoraLayer):
            continue
        if type(module) is not LoraLinear or type(module.base_layer) is not nn.Linear:
            raise UserError(
                f"spec.method.lora.initialization takes the adapters' values out of linear layers, "
                f"and {name} is {type(module.get_base_layer()).__name__}: set it to Default, or "
                "leave the module out of spec.method.lora.targetModules."
            )
        yield name, module
