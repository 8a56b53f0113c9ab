"""Whether a model can be trained as the plan asks, judged by its configuration alone.

Raises in a second what would otherwise fail after the download or on the accelerator.
"""

from __future__ import annotations

from pathlib import Path

from transformers import AutoConfig, PretrainedConfig

from finetune_trainer.architecture import class_names
from finetune_trainer.outcome import UserError
from finetune_trainer.run import Task


def read_config(directory: Path, origin: str, task: Task = Task.GENERATION) -> PretrainedConfig:
    """The configuration of a model that can be trained for `task`.

    Raises:
        UserError: transformers cannot build the model without code from the repository, the model
            is none for the task, or its weights are quantized.
    """
    try:
        config = AutoConfig.from_pretrained(directory, local_files_only=True)
    except (ValueError, KeyError, OSError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(
            f"{origin} cannot be read by transformers without code of its own; set "
            f"spec.model.source to a model that can ({words})"
        ) from error
    if task.has_labels:
        _require_kind(config, origin, task)
    else:
        _require_causal(config, origin)
    if method := getattr(config, "quantization_config", None):
        name = method.get("quant_method", "") if isinstance(method, dict) else ""
        raise UserError(
            f"{origin} is already quantized{f' ({name})' if name else ''} and cannot be trained: "
            "set spec.model.source to the model it was made from."
        )
    return config


def check_sequence_length(
    config: PretrainedConfig, sequence_length: int, virtual_tokens: int = 0
) -> None:
    """Refuse sequences longer than the positions that the model was made for.

    Raises:
        UserError: `sequence_length` (tokens) is larger than `max_position_embeddings`, or leaves
            no room for the `virtual_tokens` before each.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(limit, int) and limit >= sequence_length > limit - virtual_tokens:
        raise UserError(
            f"spec.training.sequenceLength is {sequence_length} and spec.method adds "
            f"{virtual_tokens} virtualTokens, but the model has positions for {limit} tokens: set "
            f"sequenceLength to {limit - virtual_tokens} or less."
        )
    if isinstance(limit, int) and 0 < limit < sequence_length:
        raise UserError(
            f"spec.training.sequenceLength is {sequence_length}, but the model has positions for "
            f"{limit} tokens: set it to {limit} or less."
        )


def _require_causal(config: PretrainedConfig, origin: str) -> None:
    causal = class_names(Task.GENERATION)
    names = {name for each in causal.values() for name in each}
    architectures = config.architectures or []
    if config.model_type in causal and (
        not architectures or any(name in names for name in architectures)
    ):
        return
    what = ", ".join(architectures) or config.model_type
    raise UserError(
        f"{origin} is not a causal language model ({what}): set spec.model.source to one that is."
    )


def _require_kind(config: PretrainedConfig, origin: str, task: Task) -> None:
    if config.model_type not in class_names(task):
        raise UserError(
            f"{origin} is of type {config.model_type}, which transformers has no model of for task "
            f"{task}: set spec.model.source to another."
        )
