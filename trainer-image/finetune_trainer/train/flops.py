"""How much of an accelerator a run uses: operations that training needs, and what devices can do.

Counted is what the model needs, not what is executed: recomputed activations count once, padding
not at all, and tokens that a trick saves as if they had been computed. So the share is comparable
between techniques.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

# Dense bfloat16 matrix products with float32 accumulation, operations a second, from NVIDIA's data
# sheets (those that quote sparse numbers halved). A name is matched by its longest key.
PEAKS = {
    "NVIDIA A10": 125e12,
    "NVIDIA A30": 165e12,
    "NVIDIA A40": 149.7e12,
    "NVIDIA A100": 312e12,
    "NVIDIA B200": 2250e12,
    "NVIDIA GeForce RTX 3090": 71e12,
    "NVIDIA GeForce RTX 4090": 165.2e12,
    "NVIDIA H100": 989.4e12,
    "NVIDIA H100 NVL": 835.5e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989.4e12,
    "NVIDIA H200 NVL": 835.5e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40": 181e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA RTX 6000 Ada Generation": 364.2e12,
    "NVIDIA RTX A6000": 154.8e12,
}
# Made of a known name, but another chip or a part of one.
UNKNOWN = ("A10G", "A100X", "MIG ")


@dataclass(frozen=True, slots=True)
class Work:
    """What of a model the count depends on.

    `body` and `head` are the weights of linear layers, adapters included, without and in the output
    layer; `trained` those that have a gradient; `attention` is layers times query width.
    """

    body: int
    head: int
    trained: int
    attention: int

    def flops(self, lengths: NDArray[np.int64], supervised: int) -> float:
        """Operations of a step over documents of these lengths, of whose tokens `supervised` need
        the output layer.

        After Chowdhery et al. (arXiv:2204.02311, appendix B): a weight costs two operations a token
        forward, two backward for its input and, if it is trained, two for itself; attention to what
        came before costs 2 · length² · width a layer forward and twice that backward.
        """
        tokens = float(lengths.sum())
        products = 4 * (self.body * tokens + self.head * supervised) + 2 * self.trained * tokens
        return products + 6 * self.attention * float((lengths.astype(np.float64) ** 2).sum())


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


def peak_of(name: str) -> float | None:
    """Dense bfloat16 operations a second of the device that CUDA calls `name`."""
    if any(part in name for part in UNKNOWN):
        return None
    # A key is a whole name or ends at a word: A10 is no A100, an L4 no L40.
    found = [key for key in PEAKS if f"{name} ".replace("-", " ").startswith(f"{key} ")]
    return PEAKS[max(found, key=len)] if found else None
