"""The names that a plan gives to a model's modules, and modules that are trained whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from peft.utils import ModulesToSaveWrapper
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_trainer.outcome import UserError

# PEFT's word for every linear layer but the head.
ALL_LINEAR = "all-linear"


def linear_names(model: nn.Module) -> list[str]:
    """The last parts of the names of the linear modules, sorted, without the output head."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )


def kinds_of(model: nn.Module, wanted: str) -> list[str]:
    """The classes of the modules that PEFT takes `wanted` for."""
    return sorted({type(model.get_submodule(name)).__name__ for name in meant(model, wanted)})


def meant(model: nn.Module, wanted: str) -> list[str]:
    """The whole names of the modules that PEFT takes `wanted` for."""
    names = (name for name, _ in model.named_modules())
    return [name for name in names if name == wanted or name.endswith(f".{wanted}")]


def require_modules(model: nn.Module, field: str, names: Sequence[str]) -> None:
    """The model has all `names`, which the user wrote in `field`.

    Raises:
        UserError: it does not; the sentence has those of its linear modules.
    """
    for wanted in names:
        if not kinds_of(model, wanted):
            raise UserError(
                f'{field} names "{wanted}", which the model does not have; '
                f"its linear modules are: {', '.join(linear_names(model))}."
            )


def require_outside(
    model: nn.Module, field: str, names: Sequence[str], saved: Sequence[str]
) -> None:
    """Of every one of `names`, which the user wrote in `field`, some module is not trained whole
    with one of `saved`: PEFT would leave it without an adapter, and say nothing.

    Raises:
        UserError: all modules of one of them are.
    """
    whole = {name: module for module in saved for name in meant(model, module)}
    for wanted in names:
        inside = [
            next((whole[outer] for outer in whole if f"{name}.".startswith(f"{outer}.")), None)
            for name in meant(model, wanted)
        ]
        if inside and all(inside):
            raise UserError(
                f'{field} names "{wanted}", which is trained whole with "{inside[0]}" and can have '
                f'no adapter: remove it from there, or "{inside[0]}" from '
                "spec.method.lora.modulesToSave."
            )


def train_in_float32(model: nn.Module) -> None:
    """Make the copies that PEFT trains whole float32 inside, and what goes in and out as before.

    PEFT leaves them in the base's format, where small updates are lost.
    """
    for wrapper in model.modules():
        if not isinstance(wrapper, ModulesToSaveWrapper):
            continue
        for copy in wrapper.modules_to_save.values():
            copy.float()
            cast = _Cast(wrapper.original_module)
            copy.register_forward_pre_hook(cast.inputs, with_kwargs=True)
            copy.register_forward_hook(cast.output)


class _Cast:
    """What goes in to float32, and what comes out to the format that `original` then has: an engine
    may give it another one than its file's.
    """

    def __init__(self, original: nn.Module) -> None:
        self._original = original

    def inputs(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        wide = torch.float32
        return (
            tuple(_to(wide, value) for value in args),
            {key: _to(wide, value) for key, value in kwargs.items()},
        )

    def output(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        dtype = next(self._original.parameters()).dtype
        if isinstance(output, tuple):
            return tuple(_to(dtype, value) for value in output)
        return _to(dtype, output)


def _to(dtype: torch.dtype, value: Any) -> Any:
    floating = isinstance(value, Tensor) and value.is_floating_point()
    return value.to(dtype) if floating else value
