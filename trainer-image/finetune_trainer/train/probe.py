"""What an architecture allows, found out by trying: several documents in one row, and a head that
can be applied in chunks.

A model is compared with its own stock forward pass on a few tokens, before training. What does not
agree is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import Batch, collate
from finetune_trainer.train.speed import attention
from finetune_trainer.train.speed.loss import decode, head_logits, model_inputs

CPU = torch.device("cpu")

# Of the largest logit. A document that sees its neighbour is off by orders of magnitude more.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}

# Restricts attention by its mask alone, which per-document attention does not build.
MASKED_LAYER_TYPES = frozenset({"chunked_attention"})


@dataclass(frozen=True, slots=True)
class Abilities:
    """`shared_rows`: documents share a row, each seeing only itself. `separable_head`: see
    `SummedLoss`.
    """

    shared_rows: bool
    separable_head: bool


def probe(model: PreTrainedModel, longest_document: int, device: torch.device = CPU) -> Abilities:
    """Find out what `model`, which computes on `device`, can do with documents of up to
    `longest_document` tokens, and leave per-document attention in place if it can use it.

    `model` must be in evaluation mode and with its stock attention.
    """
    with torch.no_grad():
        return _probe(model, longest_document, device)


def _probe(model: PreTrainedModel, longest_document: int, device: torch.device) -> Abilities:
    dtype = model.dtype
    if torch.is_autocast_enabled(device.type):
        dtype = torch.get_autocast_dtype(device.type)
    tolerance = TOLERANCE.get(dtype, TOLERANCE[torch.bfloat16])
    stock = model.config._attn_implementation
    vocabulary = model.get_input_embeddings().num_embeddings
    random = np.random.default_rng(0)
    documents = [
        Example(
            tokens=random.integers(vocabulary, size=length).astype(np.int32),
            supervised=np.ones(length, dtype=np.bool_),
        )
        for length in (5, 8, 3)
    ]
    alone = [collate([document], padded=True, device=device) for document in documents]
    expected = torch.cat([_logits(model, batch) for batch in alone])
    separable_head = all(
        torch.equal(_cut_logits(model, batch), _logits(model, batch)) for batch in alone
    )
    attention.register()
    try:
        text = model.config.get_text_config()
        if MASKED_LAYER_TYPES & set(getattr(text, "layer_types", None) or ()):
            raise attention.UnsupportedAttentionError("a chunked mask")
        model.set_attn_implementation(attention.NAME)
        together = collate(documents, padded=False, device=device)
        # Too short to fill a window: whether there is one is asked for what may come.
        actual = _logits(model, together, longest_document=longest_document)
        shared_rows = _agree(actual, expected, tolerance)
    except (attention.UnsupportedAttentionError, TypeError, ValueError, RuntimeError):
        shared_rows = False
    if not shared_rows:
        model.set_attn_implementation(stock)
    return Abilities(shared_rows=shared_rows, separable_head=separable_head)


def _logits(model: PreTrainedModel, batch: Batch, **settings: int) -> Tensor:
    return model(**model_inputs(batch), **settings).logits.flatten(0, 1).float()


def _cut_logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    """The same by decoder and head, one after the other; empty where a model has no such parts."""
    if getattr(model, model.base_model_prefix, model) is model:
        return torch.empty(0)
    try:
        output = decode(model, batch)
        rows = output.last_hidden_state.flatten(0, 1)
        return head_logits(model, type(output), rows).float()
    except (AttributeError, LookupError, RuntimeError, TypeError, ValueError):
        return torch.empty(0)


def _agree(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    if actual.shape != expected.shape:
        return False
    difference = float((actual - expected).abs().max())
    return difference <= tolerance * float(expected.abs().max())
