"""The summed cross-entropy of the supervised positions, Σ -log p(y), a chunk of them at a time.

Each chunk's gradient is formed at once, so that the head's product is not computed a second time in
the backward pass. What the head does with them is in `head.py`; how sums over micro-batches and
ranks become a mean is the recipe's business.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.speed.head import Head, chunks, is_elsewhere

# From rows [n, hidden] and targets [n] to their summed loss.
RowsLoss = Callable[[Tensor, Tensor], Tensor]


class SummedLoss(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal model as a function from a batch to its summed loss.

    `separable_head` and `plain_head`: see `Head`. `autocast` is the format of matrix products where
    it is not the parameters' own. In training mode `trained_by` takes the place of cross-entropy,
    from logits [n, vocabulary].
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        separable_head: bool,
        plain_head: bool = False,
        autocast: torch.dtype | None = None,
        trained_by: RowsLoss | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.head = Head(model, separable_head, plain_head)
        self.autocast = autocast
        self.trained_by = trained_by

    def forward(self, batch: Batch) -> Tensor:
        """The sum over `batch.targets` of -log p(target), a float32 scalar; 0 if there are none."""
        device = batch.input_ids.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            return self._sum(batch)

    def _sum(self, batch: Batch) -> Tensor:
        own = self.trained_by if self.model.training else None
        rows, logits_of, parameters = self.head.select(batch)

        def loss(chunk: Tensor, targets: Tensor) -> Tensor:
            logits = logits_of(chunk)
            if own is not None:
                return own(logits, targets)
            return -self.head.log_probabilities(logits, chunk, targets).sum()

        return chunked_sum(loss, rows, batch.targets, parameters)


def chunked_sum(
    loss: RowsLoss, rows: Tensor, targets: Tensor, parameters: list[nn.Parameter]
) -> Tensor:
    """The sum of `loss` over chunks of `rows` [n, hidden] and `targets` [n], a float32 scalar.

    `parameters` are all that `loss` uses. Parts that other ranks hold (ZeRO-3) are gathered by
    hooks that a backward pass needs too: with them each chunk is computed again in it.
    """
    elsewhere = any(is_elsewhere(parameter) for parameter in parameters)
    parameters = [parameter for parameter in parameters if parameter.requires_grad]
    if not torch.is_grad_enabled() or not (rows.requires_grad or parameters):
        return _sum_of_chunks(loss, rows, targets)
    if elsewhere or not rows.requires_grad:
        return _sum_of_chunks(
            lambda *chunk: checkpoint(loss, *chunk, use_reentrant=False), rows, targets
        )
    total: Tensor = _GradientInForward.apply(loss, rows, targets, *parameters)
    return total


def _sum_of_chunks(loss: RowsLoss, rows: Tensor, targets: Tensor) -> Tensor:
    total = rows.new_zeros((), dtype=torch.float32)
    for chunk, wanted in chunks(rows, targets):
        total = total + loss(chunk, wanted)
    return total


class _GradientInForward(Function):  # type: ignore[misc]  # torch is not type-checked
    """The sum of a loss over chunks, whose gradient is formed while a chunk's logits exist.

    Hsu et al., "Liger Kernel" (arXiv:2410.10989), section 3.2; gradients of parameters are added up
    in their own format, those of rows are each chunk's own.
    """

    @staticmethod
    def forward(
        ctx: Any, loss: RowsLoss, rows: Tensor, targets: Tensor, *parameters: nn.Parameter
    ) -> Tensor:
        total = rows.new_zeros((), dtype=torch.float32)
        d_rows = torch.empty_like(rows)
        sums = [torch.zeros_like(parameter) for parameter in parameters]
        for chunk, wanted, d_chunk in chunks(rows, targets, d_rows):
            with torch.enable_grad():
                leaf = chunk.detach().requires_grad_()
                value = loss(leaf, wanted)
            gradients = torch.autograd.grad(value, [leaf, *parameters], materialize_grads=True)
            total += value.detach()
            d_chunk.copy_(gradients[0])
            for each, gradient in zip(sums, gradients[1:], strict=True):
                each += gradient
        ctx.save_for_backward(d_rows, *sums)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        d_rows, *sums = ctx.saved_tensors
        return None, d_rows * gradient, None, *(each * gradient for each in sums)
