"""The numbers that tell how large a model is and what one training process needs.

How they come about belongs to `memory.py`, which needs torch; here is nothing that does.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

from finetune_trainer.work import Work

# What a process holds before it has a model: Python, torch and transformers, or the accelerator's
# context and libraries. Measured: 0.8 GiB on a CPU.
RUNTIME_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of parameters, tied weights once; and `inputs`, the values that the trained linear
    layers read of one token, each layer by itself; `outputs` those that they write, or that are
    scaled or adapted. Of the frozen parameters `quantized` are kept in NF4. `widest` is the largest
    single weight. Gradients pass the last `reached` layers; None: all. `work` counts operations,
    where that can be done.
    """

    parameters: int
    trainable: int
    inputs: int
    outputs: int = 0
    quantized: int = 0
    widest: int = 0
    reached: int | None = None
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that one training process needs, by what they hold."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    runtime: int = RUNTIME_BYTES

    @property
    def total(self) -> int:
        """All of it together."""
        return sum(astuple(self))
