"""Log-probabilities of the supervised tokens, one by one, where a task needs more than their sum.

As in `loss.py` the gradient of a chunk is formed at once, but only where the head is frozen: what
becomes of a value is not known yet, and a trained weight would need a gradient for each of them.
What is made of the values is the objective's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.speed.head import Head, chunks, is_frozen_here

# From rows [n, hidden] and targets [n] to values [n].
RowsValues = Callable[[Tensor, Tensor], Tensor]


def target_log_probabilities(head: Head, batch: Batch) -> Tensor:
    """log p(target) for each of `batch.targets`, float32 [n], with gradients."""
    rows, logits_of, parameters = head.select(batch)

    def values(chunk: Tensor, targets: Tensor) -> Tensor:
        return head.log_probabilities(logits_of(chunk), chunk, targets)

    gradient = torch.is_grad_enabled() and rows.requires_grad
    if gradient and all(is_frozen_here(parameter) for parameter in parameters):
        found: Tensor = _RowGradientInForward.apply(values, rows, batch.targets)
        return found
    return torch.cat(
        [checkpoint(values, *chunk, use_reentrant=False) for chunk in chunks(rows, batch.targets)]
    )


class _RowGradientInForward(Function):  # type: ignore[misc]  # torch is not type-checked
    """One value for each row, whose gradient is formed while the row's logits exist.

    A value depends on its own row alone, so the gradient of the chunk's sum has each row's own, and
    what the loss makes of a value scales it: dL/dh_i = dL/dv_i · dv_i/dh_i.
    """

    @staticmethod
    def forward(ctx: Any, function: RowsValues, rows: Tensor, targets: Tensor) -> Tensor:
        values, d_rows = [], []
        for chunk, wanted in chunks(rows, targets):
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
        return None, (d_rows * gradient[:, None]).to(d_rows.dtype), None
