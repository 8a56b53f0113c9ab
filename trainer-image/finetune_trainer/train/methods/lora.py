"""Low-rank adapters beside frozen linear layers, by PEFT.

The frozen base is kept in the compute format; the adapters, and modules that are trained whole
beside them, are float32.
"""

from __future__ import annotations

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from peft.tuners.lora.dora import DoraLinearLayer
from peft.utils.integrations import dequantize_module_weight
from torch import nn
from transformers import PreTrainedModel

from finetune_trainer.architecture import head_modules, peft_task
from finetune_trainer.outcome import UserError
from finetune_trainer.run import Initialization, Lora, Task
from finetune_trainer.train.methods.modules import (
    ALL_LINEAR,
    kinds_of,
    linear_names,
    require_modules,
    require_outside,
    train_in_float32,
)

ADAPTER = "default"


def add_lora(model: PreTrainedModel, lora: Lora, task: Task = Task.GENERATION) -> PeftModel:
    """`model`, changed in place: frozen, with a LoRA adapter (Hu et al., arXiv:2106.09685) on every
    target module, and copies that are trained whole of `modulesToSave` and of the head that tells
    `task`'s labels.

    The product of the adapters' B and A is zero, so the model computes what it did; what is not
    zero is drawn from torch's generator. The product is weighted alpha / rank, or alpha /
    sqrt(rank) with rsLoRA (Kalajdzievski, arXiv:2312.03732). With DoRA (Liu et al.,
    arXiv:2402.09353) each output's weights have a trained norm, beginning as the base's.

    Raises:
        UserError: a name in `spec.method.lora.targetModules` or `modulesToSave` is none of the
            model's modules, or of a kind that LoRA cannot adapt; what one of the former names is
            a part of what the latter do; the rank is larger than a layer.
    """
    every = lora.target_modules == [ALL_LINEAR]
    remedy = f"its linear modules are: {', '.join(linear_names(model))}."
    named = [] if every else lora.target_modules
    require_modules(model, "spec.method.lora.targetModules", named)
    require_modules(model, "spec.method.lora.modulesToSave", lora.modules_to_save)
    saved = [*lora.modules_to_save, *head_modules(model, task)]
    require_outside(model, "spec.method.lora.targetModules", named, saved)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        use_rslora=lora.rslora,
        use_dora=lora.dora,
        init_lora_weights="gaussian" if lora.initialization is Initialization.GAUSSIAN else True,
        target_modules=ALL_LINEAR if every else list(lora.target_modules),
        modules_to_save=saved or None,
        task_type=peft_task(task),
    )
    try:
        # Adapters in float32 over a bfloat16 base: small updates survive.
        adapted = get_peft_model(model, config, autocast_adapter_dtype=True)
    except ValueError as error:
        found = "; ".join(f"{name} is {', '.join(kinds_of(model, name))}" for name in named)
        raise UserError(
            f"spec.method.lora.targetModules names what LoRA cannot adapt ({found or error}); "
            + remedy
        ) from error
    _require_fitting(model, lora)
    if lora.initialization is Initialization.ORTHOGONAL:
        _make_orthogonal(model)
    train_in_float32(model)
    norms_in_float32(model)
    return adapted


def norms_in_float32(model: nn.Module) -> None:
    """Set DoRA's norms to those of what base and adapter are now.

    PEFT computes them in the base's format, which in bfloat16 moves every output by up to 0.4 %.
    """
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or ADAPTER not in layer.lora_magnitude_vector:
            continue
        dora = layer.lora_magnitude_vector[ADAPTER]
        base = layer.get_base_layer()
        if type(dora) is not DoraLinearLayer or base.weight.device.type == "meta":
            continue
        with torch.no_grad():
            weight = dequantize_module_weight(base).float()
            product = layer.lora_B[ADAPTER].weight @ layer.lora_A[ADAPTER].weight
            dora.weight.data = dora.get_weight_norm(weight, product, layer.scaling[ADAPTER])


def _make_orthogonal(model: nn.Module) -> None:
    """PEFT's `orthogonal` for linear layers. It would round both factors to the base's format,
    after which their product is no longer zero.
    """
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and ADAPTER in layer.lora_A:
            pair, base = (layer.lora_A[ADAPTER], layer.lora_B[ADAPTER]), layer.base_layer
            device = base.weight.device
            try:
                layer.base_layer = nn.Linear(1, 1)  # of which it takes the format
                layer.orthogonal_init(ADAPTER)
            finally:
                layer.base_layer = base
            for factor in pair:
                factor.to(device)


def _require_fitting(model: nn.Module, lora: Lora) -> None:
    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            smallest = min(module.in_features, module.out_features)
            if lora.rank > smallest:
                raise UserError(
                    f"spec.method.lora.rank is {lora.rank}, larger than {name} "
                    f"({module.in_features} to {module.out_features} values): set it to "
                    f"{smallest} or less, or leave this module out of "
                    "spec.method.lora.targetModules."
                )
