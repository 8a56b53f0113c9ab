"""The base model from disk. What of it is trained is decided in `methods/`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from transformers import AutoConfig, BitsAndBytesConfig, PreTrainedModel

from finetune_trainer.architecture import auto_class, is_of_head
from finetune_trainer.outcome import UserError
from finetune_trainer.run import Task
from finetune_trainer.train.methods.quantization import keep_trainable


def load_base(
    path: Path,
    *,
    dtype: torch.dtype | Literal["auto"],
    device: torch.device,
    quantization: BitsAndBytesConfig | None = None,
    task: Task = Task.GENERATION,
) -> PreTrainedModel:
    """The model for `task` in the directory `path`, in evaluation mode, its parameters in `dtype`
    but those that `quantization` names. The head that tells labels, if the task has any and the
    files have none for them, is drawn from torch's generator.

    In the files' own format ("auto") and in CPU memory they are mapped, not read: each costs no
    memory of this process, and the disk only what is looked at.

    Raises:
        UserError: transformers has no such model of this architecture, or the files lack some of
            its weights.
    """
    model: PreTrainedModel
    try:
        model, info = auto_class(task).from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            low_cpu_mem_usage=True,
            output_loading_info=True,
            # A head for other labels.
            ignore_mismatched_sizes=task.has_labels,
            # What is quantized is so on its device, one weight at a time.
            quantization_config=quantization,
            device_map={"": device} if quantization else None,
        )
    except ValueError as error:
        raise UserError(
            f"spec.model.source is not a model that can be trained for task {task}: {error}"
        ) from error
    # transformers fills them with random values and goes on.
    if missing := sorted(key for key in info["missing_keys"] if not is_of_head(key, model, task)):
        raise UserError(
            f"The model's weights lack {missing[0]} ({len(missing)} tensors in all): set "
            "spec.model.source to a model that is whole."
        )
    if quantization:
        keep_trainable(model)
        return model.eval()
    return model.to(device).eval()


def stored_dtype(path: Path) -> torch.dtype:
    """The number format of the model in the directory `path`; float32 if it does not say."""
    dtype = AutoConfig.from_pretrained(path, local_files_only=True).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def placed_dtype(
    parameter: nn.Parameter, *, usual: torch.dtype, frozen: torch.dtype
) -> torch.dtype:
    """The format that `parameter`, of a model that was stored in `usual`, is to have: float32 if it
    is trained, else `frozen`, but for what transformers keeps in float32 beside a narrower model.
    """
    if parameter.requires_grad:
        return torch.float32
    return frozen if parameter.dtype == usual else parameter.dtype


def require_same_shapes(weights: dict[str, Tensor], shapes: dict[str, torch.Size]) -> None:
    """`weights` have the names and `shapes` of what is trained.

    Raises:
        ValueError: they have others.
    """
    if {name: weight.shape for name, weight in weights.items()} != shapes:
        raise ValueError("its weights are not those that this plan trains")


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name; tied weights appear once."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }
