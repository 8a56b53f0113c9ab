"""What an architecture allows, found out by trying: several documents in one row, and a head that
can be applied in chunks.

A model is compared with its own stock forward pass on a few tokens, before training. What does not
agree is not used.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example
from finetune_trainer.train.batches import Batch, collate
from finetune_trainer.train.speed import attention
from finetune_trainer.train.speed.head import decode, head_logits, is_frozen_here, model_inputs
from finetune_trainer.train.speed.prefixes import MINIMUM_SAVING
from finetune_trainer.train.speed.residual import keep_stream_in_float32, may_gain
from finetune_trainer.train.speed.techniques import enabled

CPU = torch.device("cpu")

# Root mean squares of difference and logits. In bfloat16 two orders of adding up the same values
# are up to 0.06 apart (SmolLM2, random tokens); a document that sees its neighbour is by far more.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}

# Restricts attention by its mask alone, which per-document attention does not build.
MASKED_LAYER_TYPES = frozenset({"chunked_attention"})


@dataclass(frozen=True, slots=True)
class Abilities:
    """`shared_rows`: documents share a row, each seeing only itself. `shared_prefixes`: in it, a
    common beginning is computed once. `separable_head` and `plain_head`: see `Head`.
    `float32_stream`: see `residual.py`.
    """

    shared_rows: bool
    shared_prefixes: bool
    separable_head: bool
    plain_head: bool = False
    float32_stream: bool = False


def probe(model: PreTrainedModel, longest_document: int, device: torch.device = CPU) -> Abilities:
    """Find out what `model`, which computes on `device`, can do with documents of up to
    `longest_document` tokens, and leave in place what it can use: per-document attention, and a
    residual stream in float32.

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
    vocabulary = int(model.config.get_text_config().vocab_size)
    random = np.random.default_rng(0)
    beginning = random.integers(vocabulary, size=MINIMUM_SAVING + 1)
    documents = [
        Example(
            tokens=np.append(common, random.integers(vocabulary, size=length)).astype(np.int32),
            supervised=np.ones(len(common) + length, dtype=np.bool_),
        )
        for common, length in ((beginning, 3), (beginning[:0], 8), (beginning, 2))
    ]
    alone = [collate([document], padded=True, device=device) for document in documents]
    expected = torch.cat([_trained_logits(model, batch) for batch in alone])
    separable_head = all(
        torch.equal(_cut_logits(model, batch), _logits(model, batch)) for batch in alone
    )
    plain_head = separable_head and _is_plain(model, alone[0])
    attention.register()
    try:
        text = model.config.get_text_config()
        if MASKED_LAYER_TYPES & set(getattr(text, "layer_types", None) or ()):
            raise attention.UnsupportedAttentionError("a chunked mask")
        model.set_attn_implementation(attention.NAME)
        shared_rows, shared_prefixes = (
            # Too short to fill a window: whether there is one is asked for what may come.
            _agree(
                _trained_logits(model, batch, longest_document=longest_document),
                expected,
                tolerance,
            )
            for batch in (
                collate(documents, padded=False, device=device, shared=shared)
                for shared in (False, True)
            )
        )
    except (attention.UnsupportedAttentionError, TypeError, ValueError, RuntimeError):
        shared_rows = shared_prefixes = False
    if not shared_rows:
        model.set_attn_implementation(stock)
    float32_stream = False
    if shared_rows and may_gain(model) and enabled("residual"):
        batch = collate(documents, padded=False, device=device)
        float32_stream = _keeps_stream(model, batch, expected, tolerance)
    return Abilities(
        shared_rows=shared_rows,
        shared_prefixes=shared_rows
        and shared_prefixes
        and not _is_random(model)
        and enabled("prefixes"),
        separable_head=separable_head and enabled("loss"),
        plain_head=plain_head and enabled("loss"),
        float32_stream=float32_stream,
    )


def _is_plain(model: PreTrainedModel, batch: Batch) -> bool:
    """Whether logits are the product with the head's weight, which is whole here."""
    head = model.get_output_embeddings()
    if type(head) is not nn.Linear or not all(map(is_frozen_here, head.parameters())):
        return False
    rows = decode(model, batch).last_hidden_state.flatten(0, 1)
    return bool(torch.equal(head(rows).float(), _logits(model, batch)))


def _keeps_stream(model: PreTrainedModel, batch: Batch, expected: Tensor, tolerance: float) -> bool:
    """Whether the residual stream of `model` is in float32 from now on."""
    handles = keep_stream_in_float32(model)
    try:
        if _agree(_trained_logits(model, batch), expected, tolerance):
            return True
    except (TypeError, ValueError, RuntimeError):
        pass  # something reads the stream other than through a norm
    for handle in handles:
        handle.remove()
    return False


def _is_random(model: PreTrainedModel) -> bool:
    """Whether tokens that see the same may differ in training: what is drawn for them does."""
    dropped = any(isinstance(each, nn.Dropout) and each.p > 0 for each in model.modules())
    return dropped or bool(getattr(model.config.get_text_config(), "attention_dropout", 0))


def _logits(model: PreTrainedModel, batch: Batch) -> Tensor:
    return model(**model_inputs(batch)).logits.flatten(0, 1).float()


def _trained_logits(model: PreTrainedModel, batch: Batch, **settings: int) -> Tensor:
    """The logits that predict the documents' tokens, one document after the other."""
    logits = model(**model_inputs(batch), **settings).logits
    return logits.flatten(0, 1).index_select(0, batch.positions).float()


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
    return bool((actual - expected).norm() <= tolerance * expected.norm())
