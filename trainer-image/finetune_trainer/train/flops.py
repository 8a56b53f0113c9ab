"""How much of an accelerator a run uses: of a model as it is trained, on a device as it is here."""

from __future__ import annotations

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_trainer.work import Work, peak_of


def work_of(model: PreTrainedModel) -> Work | None:
    """The count for `model` as it is trained; None where linear layers are not all of it, as in a
    mixture of experts.
    """
    config = model.config.get_text_config()
    if any(parameter.ndim > 2 for parameter in model.parameters()):
        return None
    head = model.get_output_embeddings()
    body = outer = trained = 0
    for module in model.modules():
        if not isinstance(module, (nn.Linear, Conv1D)):
            continue
        # Not the weight's own size: a quantized one is packed.
        linear = isinstance(module, nn.Linear)
        count = module.in_features * module.out_features if linear else module.weight.numel()
        body, outer = (body, outer + count) if module is head else (body + count, outer)
        trained += count if module.weight.requires_grad else 0
    heads = int(getattr(config, "num_attention_heads", None) or 0)
    if not heads:
        return None
    width = heads * int(getattr(config, "head_dim", None) or config.hidden_size // heads)
    return Work(body, outer, trained, int(config.num_hidden_layers) * width)


def peak_flops(device: torch.device, precision: str) -> float | None:
    """Operations a second that `device` can do in `precision`; None if that is not known."""
    if device.type != "cuda" or precision != "bfloat16":
        return None
    return peak_of(torch.cuda.get_device_name(device))
