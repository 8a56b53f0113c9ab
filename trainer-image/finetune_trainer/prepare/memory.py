"""How large the model is and how much memory one training process needs, before any weight is read.

An estimate to refuse or warn by, not a measurement; `train` reports what it really used.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from transformers import AutoModelForCausalLM, PretrainedConfig

from finetune_trainer.run import Precision, Run
from finetune_trainer.train.loss import CHUNK_ROWS
from finetune_trainer.train.model import add_lora

FLOAT32, BFLOAT16 = 4, 2

# What a process holds before it has a model: Python, torch and transformers, or the accelerator's
# context and libraries. Measured: 0.8 GiB on a CPU.
RUNTIME_BYTES = 2**30


@dataclass(frozen=True, slots=True)
class Sizes:
    """Counts of parameters; tied weights once."""

    parameters: int
    trainable: int


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


def count_parameters(config: PretrainedConfig, run: Run) -> Sizes:
    """Build the model with its adapters on torch's meta device, where tensors have no storage.

    Raises:
        UserError: `spec.method.lora.targetModules` names a module that the model does not have.
    """
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
        base = sum(parameter.numel() for parameter in model.parameters())
        if run.method.lora is None:
            return Sizes(parameters=base, trainable=base)
        adapted = add_lora(model, run.method.lora)
    trainable = sum(
        parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad
    )
    return Sizes(parameters=base, trainable=trainable)


def estimate_memory(config: PretrainedConfig, sizes: Sizes, run: Run) -> Memory:
    """What a process holds at the peak of a step with one full sequence.

    * Frozen weights in the compute format; trained ones, their gradients and AdamW's two moments in
      float32 (4 + 4 + 8 bytes a trained parameter).
    * Activations: per token and layer the values that the backward pass reads. With hidden size h,
      key-value width k and feed-forward width f that is 8h + 2k + 4f (norms, projections and the
      gated product; attention keeps no matrix), plus h at the layers' borders. With gradient
      checkpointing only the borders of all layers and the inside of one.
      After Korthikanti et al. (2022), arXiv:2205.05198, counted for a gated feed-forward block.
    * Logits: one chunk of the loss and its gradient, in float32.
    * What the process holds without any model.
    """
    text = config.get_text_config()
    compute = _compute_bytes(run)
    frozen = sizes.parameters if run.method.lora is not None else 0
    hidden, layers = int(text.hidden_size), int(text.num_hidden_layers)
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    key_heads = int(getattr(text, "num_key_value_heads", None) or heads)
    feed_forward = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    inside = 8 * hidden + 2 * (hidden * key_heads // heads) + 4 * feed_forward
    deep = 1 if run.training.gradient_checkpointing else layers
    tokens = run.training.sequence_length
    return Memory(
        weights=frozen * compute + sizes.trainable * FLOAT32,
        gradients=sizes.trainable * FLOAT32,
        optimizer=2 * sizes.trainable * FLOAT32,
        activations=tokens * (layers * hidden + deep * inside) * compute,
        logits=2 * min(tokens, CHUNK_ROWS) * int(text.vocab_size) * FLOAT32,
    )


def _compute_bytes(run: Run) -> int:
    """Bytes of a value in the compute format; `Auto` counts as bfloat16 only with an accelerator.

    The node that trains is not this one, so a CPU's number formats are not known here.
    """
    precision = run.training.precision
    if precision is Precision.AUTO:
        return BFLOAT16 if run.resources.gpus_per_node else FLOAT32
    return BFLOAT16 if precision is Precision.BFLOAT16 else FLOAT32
