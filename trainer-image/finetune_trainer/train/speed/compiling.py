"""torch.compile for the decoder's layers, where it pays.

The compiler fuses what lies between the products: norms, rotary positions, activations, casts. One
graph serves all layers and all lengths of rows; attention and LoRA are opaque to it. It needs a C++
compiler (or, on an accelerator, Triton's), which an image may lack, and time, which a short run
does not win back.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import torch
from torch import nn
from transformers import PreTrainedModel

from finetune_trainer.run import Compile
from finetune_trainer.train.speed.techniques import enabled

# Measured with SmolLM2-135M on two CPUs: compiling took 20 to 60 s and a step a tenth less time.
COST_SECONDS = 60.0
GAIN = 0.1
# So many steps tell how long the run will take.
DECIDE_AFTER_STEPS = 3

COMPILERS = ("c++", "g++", "clang++")


def pays(setting: Compile, *, steps_done: int, seconds_left: float, can: bool) -> bool:
    """Whether to compile now, `steps_done` steps after this process began, with about
    `seconds_left` to go; `can` says that it is possible.
    """
    match setting:
        case Compile.NEVER:
            return False
        case Compile.ALWAYS:
            return steps_done == 0 and can
        case Compile.AUTO:
            return steps_done == DECIDE_AFTER_STEPS and can and GAIN * seconds_left > COST_SECONDS


def has_compiler() -> bool:
    """Whether there is a C++ compiler, which is wanted on accelerators, too."""
    return any(shutil.which(name) for name in COMPILERS)


def layers_of(model: PreTrainedModel) -> list[nn.Module]:
    """The layers of the decoder, in transformers' usual place; empty where they are elsewhere."""
    decoder = getattr(model, model.base_model_prefix, model)
    layers = getattr(decoder, "layers", None)
    return list(layers) if isinstance(layers, nn.ModuleList) else []


def can_compile(model: PreTrainedModel, *, sharded: bool) -> bool:
    """Whether `compile_layers` does something for `model`. Sharded layers are left alone: their
    hooks would be compiled with them.
    """
    return enabled("compile") and not sharded and has_compiler() and bool(layers_of(model))


def cache_key_of(package: Path) -> str:
    """What torch's caches on disk keep compiled graphs under, beside the graphs themselves: the
    source of `package`. They know a custom operator by its name alone, and would run what was
    compiled for another release's arguments.
    """
    sources = sorted(package.glob("*.py"))
    return hashlib.sha256(b"".join(each.read_bytes() for each in sources)).hexdigest()


def compile_layers(model: PreTrainedModel) -> None:
    """Compile every layer of the decoder when it is next called; one that the compiler cannot
    handle stays as it is.
    """
    torch._dynamo.config.suppress_errors = True
    # Beside what the environment may say (TORCH_COMPILE_CACHE_KEY_TAG).
    own, given = cache_key_of(Path(__file__).parent), torch.compiler.config.cache_key_tag
    torch.compiler.config.cache_key_tag = given if given.endswith(own) else given + own
    for layer in layers_of(model):
        layer.compile(dynamic=True)
