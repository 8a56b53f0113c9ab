"""Which of transformers' model classes a task needs, and what of it no base model brings along."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers import (
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
)
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
)

from finetune_trainer.run import Task

if TYPE_CHECKING:  # `prepare` names classes where there is no torch
    from torch import nn

_CLASSES = {
    Task.GENERATION: AutoModelForCausalLM,
    Task.PREFERENCE: AutoModelForCausalLM,
    Task.CLASSIFICATION: AutoModelForSequenceClassification,
    Task.TOKEN_CLASSIFICATION: AutoModelForTokenClassification,
}
_NAMES = {
    AutoModelForCausalLM: MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    AutoModelForSequenceClassification: MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    AutoModelForTokenClassification: MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
}
_PEFT_TASKS = {
    AutoModelForCausalLM: "CAUSAL_LM",
    AutoModelForSequenceClassification: "SEQ_CLS",
    AutoModelForTokenClassification: "TOKEN_CLS",
}


def auto_class(task: Task) -> Any:
    """The auto class, such as `AutoModelForCausalLM`."""
    return _CLASSES[task]


def class_names(task: Task) -> dict[str, list[str]]:
    """The names of the model classes by model type."""
    return {
        kind: [names] if isinstance(names, str) else list(names)
        for kind, names in _NAMES[auto_class(task)].items()
    }


def peft_task(task: Task) -> str:
    """PEFT's name of the task."""
    return _PEFT_TASKS[auto_class(task)]


def head_modules(model: nn.Module, task: Task) -> list[str]:
    """The modules beside the base model that tell the labels, such as `score`; none of a model that
    writes text.
    """
    if not task.has_labels:
        return []
    return [
        name
        for name, module in model.named_children()
        if name != model.base_model_prefix and any(True for _ in module.parameters())
    ]


def is_of_head(key: str, model: nn.Module, task: Task) -> bool:
    """Whether a weight belongs to one of these modules."""
    return key.partition(".")[0] in head_modules(model, task)
