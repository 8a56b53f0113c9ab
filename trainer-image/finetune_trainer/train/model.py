"""The model from disk, with what is to be trained: LoRA adapters by PEFT, or all of its weights.

Formats: a frozen base is kept in the compute format; whatever is trained is float32, adapters and
full weights alike.
"""

from __future__ import annotations

from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, PreTrainedModel

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Lora
from finetune_trainer.train.lora import round_once

ALL_LINEAR = "all-linear"


def load_base(path: Path, *, dtype: torch.dtype, device: torch.device) -> PreTrainedModel:
    """The causal model in the directory `path`, in evaluation mode, its parameters in `dtype`.

    Raises:
        UserError: transformers has no causal model of this architecture, or the files lack some of
            its weights.
    """
    model: PreTrainedModel
    try:
        model, info = AutoModelForCausalLM.from_pretrained(
            path,
            dtype=dtype,
            local_files_only=True,
            low_cpu_mem_usage=True,
            output_loading_info=True,
        )
    except ValueError as error:
        raise UserError(
            f"spec.model.source is not a causal language model that can be trained: {error}"
        ) from error
    # transformers fills them with random values and goes on.
    if missing := sorted(info["missing_keys"]):
        raise UserError(
            f"The model's weights lack {missing[0]} ({len(missing)} tensors in all): set "
            "spec.model.source to a model that is whole."
        )
    return model.to(device).eval()


def linear_names(model: nn.Module) -> list[str]:
    """The last parts of the names of the linear modules, sorted, without the output head."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    return sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear) and module is not head
        }
    )


def add_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """`model`, changed in place: frozen, with a LoRA adapter (Hu et al., arXiv:2106.09685) on every
    target module.

    The adapters' B is zero, so the model computes what it did; A is drawn from torch's generator.

    Raises:
        UserError: a name in `spec.method.lora.targetModules` is none of the model's modules.
    """
    every = lora.target_modules == [ALL_LINEAR]
    if not every:
        known = {name for name, _ in model.named_modules()}
        for wanted in lora.target_modules:
            if not any(name == wanted or name.endswith(f".{wanted}") for name in known):
                raise UserError(
                    f'method.lora.targetModules names "{wanted}", which the model does not have; '
                    f"its linear modules are: {', '.join(linear_names(model))}."
                )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    adapted = get_peft_model(
        model,
        LoraConfig(
            r=lora.rank,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=ALL_LINEAR if every else list(lora.target_modules),
            task_type="CAUSAL_LM",
        ),
        # Adapters in float32 over a bfloat16 base: small updates survive.
        autocast_adapter_dtype=True,
    )
    round_once(model)
    return adapted


def trainable_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """What training changes, by name; tied weights appear once."""
    return {
        name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad
    }


class ChangeCheck:
    """Proves that training reaches every trainable tensor, by comparing sums before and after.

    LoRA's A has no gradient until B is no longer zero, so the proof needs two steps.
    """

    STEPS = 2

    def __init__(self, parameters: dict[str, nn.Parameter]) -> None:
        self._parameters = parameters
        self._before = self._sums()

    def unchanged(self) -> list[str]:
        """Names of the tensors that are as they were."""
        return [name for name, now in self._sums().items() if now == self._before[name]]

    def _sums(self) -> dict[str, tuple[float, float]]:
        return {name: _sums(value.detach().double()) for name, value in self._parameters.items()}


def _sums(value: torch.Tensor) -> tuple[float, float]:
    return float(value.sum()), float(value.abs().sum())
