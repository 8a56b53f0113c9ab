"""How many operations training needs, and how many devices can do: numbers alone, without torch.

Counted is what the model needs, not what is executed: recomputed activations count once, padding
not at all, and tokens that a trick saves as if they had been computed. So the share is comparable
between techniques.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        return products + 6 * self.attention * float(np.square(lengths, dtype=np.float64).sum())


def peak_of(name: str) -> float | None:
    """Dense bfloat16 operations a second of the device that CUDA calls `name`."""
    if any(part in name for part in UNKNOWN):
        return None
    # A key is a whole name or ends at a word: A10 is no A100, an L4 no L40.
    found = [key for key in PEAKS if f"{name} ".replace("-", " ").startswith(f"{key} ")]
    return PEAKS[max(found, key=len)] if found else None
