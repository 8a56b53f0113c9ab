"""What an architecture allows, found out by trying: several documents in one row, and a head that
can be called alone.

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
from finetune_trainer.train import attention
from finetune_trainer.train.batches import Batch, collate
from finetune_trainer.train.loss import model_inputs

# Of the largest logit. A document that sees its neighbour is off by orders of magnitude more.
TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2}

# Restricts attention by its mask alone, which per-document attention does not build.
MASKED_LAYER_TYPES = frozenset({"chunked_attention"})


@dataclass(frozen=True, slots=True)
class Abilities:
    """`shared_rows`: documents share a row, each seeing only itself. `plain_head`: see
    `SummedLoss`.
    """

    shared_rows: bool
    plain_head: bool


def probe(model: PreTrainedModel, longest_document: int) -> Abilities:
    """Find out what `model` can do with documents of up to `longest_document` tokens, and leave
    per-document attention in place if it can use it.

    `model` must be as loaded, in evaluation mode and with its stock attention.
    """
    with torch.no_grad():
        return _probe(model, longest_document)


def _probe(model: PreTrainedModel, longest_document: int) -> Abilities:
    device = next(model.parameters()).device
    tolerance = TOLERANCE.get(model.dtype, TOLERANCE[torch.bfloat16])
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
    plain_head = all(
        _identical(_head_logits(model, batch), _logits(model, batch)) for batch in alone
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
    return Abilities(shared_rows=shared_rows, plain_head=plain_head)


def _logits(model: PreTrainedModel, batch: Batch, **settings: int) -> Tensor:
    return model(**model_inputs(batch), **settings).logits.flatten(0, 1).float()


def _head_logits(model: PreTrainedModel, batch: Batch) -> Tensor | None:
    decoder = getattr(model, model.base_model_prefix, None)
    head = model.get_output_embeddings()
    if decoder is None or decoder is model or head is None:
        return None
    hidden = getattr(decoder(**model_inputs(batch)), "last_hidden_state", None)
    return None if hidden is None else head(hidden).flatten(0, 1).float()


def _identical(actual: Tensor | None, expected: Tensor) -> bool:
    # The same operations on the same shapes: a score cap far from small logits is still seen.
    return actual is not None and torch.equal(actual, expected)


def _agree(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    if actual.shape != expected.shape:
        return False
    difference = float((actual - expected).abs().max())
    return difference <= tolerance * float(expected.abs().max())
