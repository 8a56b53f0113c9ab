"""Log-probabilities of the supervised tokens, one by one, where a task needs more than their sum.

Like `loss.py`, hidden states are selected before the output head and go through it in chunks, whose
gradient is formed at once where the head is frozen. What
is made of the values is the objective's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.speed.loss import (
    CHUNK_ROWS,
    decode,
    head_logits,
    is_frozen_here,
    model_inputs,
)


def target_log_probabilities(
    model: PreTrainedModel, batch: Batch, *, separable_head: bool
) -> Tensor:
    """log p(target) for each of `batch.targets`, float32 [n], with gradients.

    `separable_head` says that the model can be cut after its decoder (see `SummedLoss`).
    """
    if not separable_head:
        logits = model(**model_inputs(batch)).logits.flatten(0, 1)
        return _log_probabilities(logits.index_select(0, batch.positions), batch.targets)
    output = decode(model, batch)
    rows = output.last_hidden_state.flatten(0, 1).index_select(0, batch.positions)
    kind = type(output)

    def values(chunk: Tensor, targets: Tensor) -> Tensor:
        return _log_probabilities(head_logits(model, kind, chunk), targets)

    head = model.get_output_embeddings()
    parameters = list(head.parameters()) if head is not None else []
    gradient = torch.is_grad_enabled() and rows.requires_grad
    if gradient and all(is_frozen_here(parameter) for parameter in parameters):
        found: Tensor = _RowGradientInForward.apply(values, rows, batch.targets)
        return found
    # An empty selection is one empty chunk, through which every gradient exists and is 0.
    return torch.cat(
        [
            checkpoint(values, *chunk, use_reentrant=False)
            for chunk in zip(rows.split(CHUNK_ROWS), batch.targets.split(CHUNK_ROWS), strict=True)
        ]
    )


class _RowGradientInForward(Function):  # type: ignore[misc]  # torch is not type-checked
    """One value for each row, whose gradient is formed while the row's logits exist.

    A value depends on its own row alone, so the gradient of the chunk's sum has each row's own, and
    what the loss makes of a value scales it.
    """

    @staticmethod
    def forward(
        ctx: Any,
        function: Callable[[Tensor, Tensor], Tensor],
        rows: Tensor,
        targets: Tensor,
    ) -> Tensor:
        values, d_rows = [], []
        for chunk, wanted in zip(rows.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True):
            with torch.enable_grad():
                leaf = chunk.detach().requires_grad_()
                found = function(leaf, wanted)
                d_rows += torch.autograd.grad(found.sum(), [leaf])
            values.append(found.detach())
        ctx.save_for_backward(torch.cat(d_rows))
        return torch.cat(values)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor, None]:
        (d_rows,) = ctx.saved_tensors
        return None, d_rows * gradient[:, None].to(d_rows.dtype), None


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    return -cross_entropy(logits.float(), targets, reduction="none")
