"""Low-rank adapters beside frozen linear layers, by PEFT.

The frozen base is kept in the compute format; the adapters are float32.
"""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_trainer.outcome import UserError
from finetune_trainer.run import Lora

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


def _kinds(model: nn.Module, wanted: str) -> list[str]:
    """The classes of the modules that PEFT takes `wanted` for."""
    return sorted(
        {
            type(module).__name__
            for name, module in model.named_modules()
            if name == wanted or name.endswith(f".{wanted}")
        }
    )


def add_lora(model: PreTrainedModel, lora: Lora) -> PeftModel:
    """`model`, changed in place: frozen, with a LoRA adapter (Hu et al., arXiv:2106.09685) on every
    target module.

    The adapters' B is zero, so the model computes what it did; A is drawn from torch's generator.
    Their product is weighted alpha / rank, or alpha / sqrt(rank) with rsLoRA (Kalajdzievski,
    arXiv:2312.03732).

    Raises:
        UserError: a name in `spec.method.lora.targetModules` is none of the model's modules, or of
            a kind that LoRA cannot adapt.
    """
    every = lora.target_modules == [ALL_LINEAR]
    remedy = f"its linear modules are: {', '.join(linear_names(model))}."
    targets = {wanted: _kinds(model, wanted) for wanted in lora.target_modules if not every}
    for wanted, kinds in targets.items():
        if not kinds:
            raise UserError(
                f'spec.method.lora.targetModules names "{wanted}", which the model does not have; '
                + remedy
            )
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        target_modules=ALL_LINEAR if every else list(lora.target_modules),
        task_type="CAUSAL_LM",
    )
    try:
        # Adapters in float32 over a bfloat16 base: small updates survive.
        return get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        found = "; ".join(f"{name} is {', '.join(kinds)}" for name, kinds in targets.items())
        raise UserError(
            f"spec.method.lora.targetModules names what LoRA cannot adapt ({found or error}); "
            + remedy
        ) from error
