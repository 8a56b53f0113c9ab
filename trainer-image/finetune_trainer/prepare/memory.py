"""How large the model is and how much memory one training process needs, before any weight is read.

An estimate to refuse or warn by, not a measurement; `train` reports what it really used.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch
from peft.tuners.ia3 import IA3Layer
from peft.tuners.lora import Linear as LoraLinear
from torch import nn
from transformers import PretrainedConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from finetune_trainer.architecture import auto_class
from finetune_trainer.prepare.sizes import Memory, Sizes
from finetune_trainer.run import Full, Precision, Run
from finetune_trainer.train.flops import work_of
from finetune_trainer.train.methods.adapter import add_adapter
from finetune_trainer.train.methods.bottleneck_tuner import BottleneckLayer
from finetune_trainer.train.methods.partial import freeze_others
from finetune_trainer.train.methods.quantization import BYTES_PER_WEIGHT, quantized_linears
from finetune_trainer.train.speed.head import CHUNK_ROWS
from finetune_trainer.train.speed.layout import KEPT_KEYS

FLOAT32, BFLOAT16 = 4, 2
# Values that an optimizer keeps of a trained one; Adafactor's are sums over rows and columns.
MOMENTS = {"AdamW": 2, "Adafactor": 0, "RMSprop": 1, "SGD": 1}


def count_parameters(config: PretrainedConfig, run: Run, directory: Path | None = None) -> Sizes:
    """Build the model with its adapters on torch's meta device, where tensors have no storage.
    `directory` holds its tokenizer.

    Raises:
        UserError: model and `spec.method` do not fit together.
    """
    with torch.device("meta"):
        model = auto_class(run.task).from_config(config)
        model.tie_weights()
        base = sum(parameter.numel() for parameter in model.parameters())
        if run.method.full:
            return _full(model, run.method.full, base)
        whole = run.method.modules_to_save
        names = quantized_linears(model, whole) if run.method.quantization else []
        quantized = [model.get_parameter(f"{name}.weight").numel() for name in names]
        add_adapter(model, run.method, directory, run.task)
    trainable = sum(
        parameter.numel() for parameter in model.parameters() if parameter.requires_grad
    )
    layers = [module for module in model.modules() if isinstance(module, LoraLinear)]
    factors = [module for module in model.modules() if isinstance(module, IA3Layer)]
    bottlenecks = [module for module in model.modules() if isinstance(module, BottleneckLayer)]
    return Sizes(
        parameters=base,
        trainable=trainable,
        inputs=sum(layer.in_features for layer in layers),
        outputs=sum(layer.out_features for layer in layers)
        + sum(factor.ia3_l["default"].numel() for factor in factors)
        + sum(_bottleneck_values(layer) for layer in bottlenecks),
        quantized=sum(quantized),
        widest=max((layer.in_features * layer.out_features for layer in layers), default=0)
        or max(quantized, default=0),
        work=work_of(model),
    )


def _bottleneck_values(layer: BottleneckLayer) -> int:
    """What it keeps of a token: hidden states, and what is on both sides of the non-linearity."""
    size, hidden = layer.bottleneck_down["default"].weight.shape
    return int(hidden + 2 * size)


def _full(model: PreTrainedModel, full: Full, parameters: int) -> Sizes:
    if full.trainable is not None:
        freeze_others(model, full.trainable)
    named = list(model.named_parameters())
    first = next(index for index, (_, value) in enumerate(named) if value.requires_grad)
    # Autograd goes back to the first trained parameter; the first number in a name is its layer's.
    numbers = (re.search(r"\.(\d+)\.", name) for name, _ in named[first:])
    return Sizes(
        parameters=parameters,
        trainable=sum(value.numel() for _, value in named if value.requires_grad),
        inputs=_linear_inputs(model),
        reached=len({number[1] for number in numbers if number}),
        work=work_of(model),
    )


def _linear_inputs(model: PreTrainedModel) -> int:
    head = model.get_output_embeddings()
    return sum(
        module.in_features if isinstance(module, nn.Linear) else module.weight.shape[0]
        for module in model.modules()
        if isinstance(module, (nn.Linear, Conv1D)) and module is not head
    )


def estimate_memory(config: PretrainedConfig, sizes: Sizes, run: Run) -> Memory:
    """What a process holds at the peak of a step with one full sequence.

    * Frozen weights in the compute format; trained ones, their gradients and AdamW's two moments in
      float32 (4 + 4 + 8 bytes a trained parameter). Full training in bfloat16 computes with a copy
      of the weights (2 bytes), which autocast makes and the backward pass reads. A quantized weight
      is made whole while it is used, and DoRA makes an adapted one whole in float32 three times.
    * Activations: per token what the backward pass reads, see `_layer_bytes`. With gradient
      checkpointing only the borders of all layers and the inside of one.
    * Logits: one chunk of the loss and its gradient, in float32 and as the head wrote it.
    * What the process holds without any model.

    Not counted are passes without gradients before a step's own, as the losses of preferences make
    for what the base says and KTO for its divergence: none has more tokens than a step's, and of
    what a layer computes it keeps nothing.
    """
    text = config.get_text_config()
    compute = _compute_bytes(run)
    full = run.method.full is not None
    hidden, layers = int(text.hidden_size), int(text.num_hidden_layers)
    border = hidden * FLOAT32
    inside = _layer_bytes(config, sizes, run)
    passed = layers if sizes.reached is None else sizes.reached
    checkpointing = run.training.gradient_checkpointing
    per_token = inside + passed * border if checkpointing else passed * inside
    tokens = run.training.sequence_length + run.method.virtual_tokens
    copies = 2 * FLOAT32 + (compute if compute < FLOAT32 else 0)
    return Memory(
        weights=(sizes.parameters - sizes.quantized - (sizes.trainable if full else 0)) * compute
        + int(sizes.quantized * BYTES_PER_WEIGHT)
        + sizes.widest * _whole_bytes(run)
        + sizes.trainable * FLOAT32
        + (sizes.trainable * compute if full and compute < FLOAT32 else 0),
        gradients=sizes.trainable * FLOAT32,
        optimizer=MOMENTS[run.training.optimizer.type] * sizes.trainable * FLOAT32,
        # The last norm and the head read the hidden values once more.
        activations=tokens * (per_token + 3 * border),
        logits=min(tokens, CHUNK_ROWS) * int(text.vocab_size) * copies,
    )


def _layer_bytes(config: PretrainedConfig, sizes: Sizes, run: Run) -> int:
    """Bytes of one token that the backward pass reads in one layer.

    With hidden size h, query width q, key-value width k and feed-forward width f, after Korthikanti
    et al. (2022), arXiv:2205.05198, for a gated feed-forward block:

    * two norms: 2h in float32 whatever the format, and 2h more where their weights are trained;
    * attention and the gated product: 2q + 2k + 3f in the compute format. It keeps no matrix, but
      for the blocks that are small enough to, on a CPU: there each head has half a document;
    * what the trained linear layers read. Those side by side share it (2h + q + f), but for weights
      in bfloat16, which each have a copy that is cast down, and adapters that are not plain, which
      have one in float32;
    * adapters with dropout: each its own copy besides, and a mask.
    """
    text = config.get_text_config()
    lora, compute = run.method.lora, _compute_bytes(run)
    hidden, layers = int(text.hidden_size), int(text.num_hidden_layers)
    heads = int(getattr(text, "num_attention_heads", None) or 1)
    head = int(getattr(text, "head_dim", None) or hidden // heads)
    query = heads * head
    keys = int(getattr(text, "num_key_value_heads", None) or heads) * head
    wide = int(getattr(text, "intermediate_size", None) or 4 * hidden)
    inputs = sizes.inputs // layers
    plain = lora is not None and not lora.dora and not lora.quantization
    shares = plain or compute == FLOAT32
    read = min(inputs, 2 * hidden + query + wide) if shares else inputs
    norms = (4 if run.method.full else 2) * hidden * FLOAT32
    kept = 0 if run.resources.gpus_per_node else min(run.training.sequence_length, KEPT_KEYS) // 2
    products = (2 * query + 2 * keys + 3 * wide + heads * kept) * compute
    if run.method.full:
        return norms + products + read * compute
    if lora is None:
        return norms + products + sizes.outputs // layers * FLOAT32
    if lora.dora:
        # Its scales' gradients need what base and adapter wrote.
        norms += 2 * (sizes.outputs // layers) * FLOAT32
    if lora.dropout:
        # A bit is kept as a byte on an accelerator and as a float on a CPU.
        mask = 1 if run.resources.gpus_per_node else FLOAT32
        if plain:
            mask = min(mask, compute)
            return norms + products + read * compute + inputs * (compute + mask)
        return norms + products + inputs * (FLOAT32 + mask)
    return norms + products + read * (compute if plain else FLOAT32)


def _whole_bytes(run: Run) -> int:
    """Bytes of a value of the weight that is made whole in a layer."""
    lora = run.method.lora
    made = _compute_bytes(run) if run.method.quantization else 0
    return made + (3 * FLOAT32 if lora and lora.dora else 0)


def _compute_bytes(run: Run) -> int:
    """Bytes of a value in the compute format; `Auto` counts as bfloat16 only with an accelerator.

    The node that trains is not this one, so a CPU's number formats are not known here.
    """
    precision = run.training.precision
    if precision is Precision.AUTO:
        return BFLOAT16 if run.resources.gpus_per_node else FLOAT32
    return BFLOAT16 if precision is Precision.BFLOAT16 else FLOAT32
