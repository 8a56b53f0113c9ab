"""The summed cross-entropy of the supervised positions, and of no others.

Hidden states are selected before the output head and go through it in chunks, so that the [tokens,
vocabulary] logits never exist as a whole, whatever the model does to them. Each chunk's gradient is
formed at once, so that the head's product is not computed a second time in the backward pass. How
sums over micro-batches and ranks become a mean is the recipe's business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.distributed.tensor import DTensor
from torch.nn.functional import log_softmax
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from finetune_trainer.train.batches import Batch

# Rows of logits that exist at a time: 256 rows of a 152k vocabulary are 0.16 GB in float32. Fewer
# would read the head's weights too often, more would not stay in a cache.
CHUNK_ROWS = 256

# From rows [n, hidden] and targets [n] to their summed loss.
RowsLoss = Callable[[Tensor, Tensor], Tensor]


class SummedLoss(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal model as a function from a batch to its summed loss.

    `separable_head` says that the model can be cut after its decoder (`decode`, `head_logits`). Of
    one that cannot, all logits exist at once. `plain_head`: the logits are the head's product, and
    nothing else is done to them. `autocast` is the format of matrix products where it
    is not the parameters' own. In training mode `trained_by` takes the place of cross-entropy, from
    logits [n, vocabulary].
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
        self.separable_head = separable_head
        self.plain_head = plain_head
        self.autocast = autocast
        self.trained_by = trained_by

    def forward(self, batch: Batch) -> Tensor:
        """The sum over `batch.targets` of -log p(target), a float32 scalar; 0 if there are none."""
        device = batch.input_ids.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            return self._sum(batch)

    def _sum(self, batch: Batch) -> Tensor:
        own = self.trained_by if self.model.training else None
        if not self.separable_head:
            logits = self.model(**model_inputs(batch)).logits.flatten(0, 1)
            logits = logits.index_select(0, batch.positions)
            return (own or _cross_entropy_sum)(logits, batch.targets)
        output = decode(self.model, batch)
        rows = output.last_hidden_state.flatten(0, 1).index_select(0, batch.positions)
        kind = type(output)

        def loss(chunk: Tensor, targets: Tensor) -> Tensor:
            logits = head_logits(self.model, kind, chunk)
            if own is not None:
                return own(logits, targets)
            return _cross_entropy_sum(logits, targets, self._unrounded(chunk, targets))

        return chunked_sum(loss, rows, batch.targets, list(self.head_parameters()))

    def _unrounded(self, rows: Tensor, targets: Tensor) -> Tensor | None:
        """The targets' logits in float32, [n], where the head gives rounded ones."""
        head = self.model.get_output_embeddings()
        if not (self.plain_head and head.weight.dtype is torch.bfloat16):
            return None
        with torch.no_grad():
            logits = (rows.float() * head.weight.index_select(0, targets).float()).sum(-1)
            return logits if head.bias is None else logits + head.bias[targets]

    def head_parameters(self) -> Iterator[nn.Parameter]:
        """What the model has outside its decoder, and what both use."""
        head = self.model.get_output_embeddings()
        if head is not None:
            yield from head.parameters()


def decode(model: PreTrainedModel, batch: Batch) -> ModelOutput:
    """What the decoder, by the name that transformers gives it, says before the output head."""
    return getattr(model, model.base_model_prefix)(**model_inputs(batch))


def head_logits(model: PreTrainedModel, kind: type[ModelOutput], rows: Tensor) -> Tensor:
    """The logits [n, vocabulary] of the hidden states `rows` [n, hidden], which a decoder returned
    in a `kind`.

    They come from the model's own forward pass around a decoder that has its answer ready: what it
    does to them, such as Gemma 2's cap, need not be known here.
    """
    decoder = getattr(model, model.base_model_prefix)
    decoder.forward = lambda *_, **__: kind(last_hidden_state=rows[None])
    try:
        logits: Tensor = model(use_cache=False).logits[0]
    finally:
        del decoder.forward  # the class's own is seen again
    return logits


def model_inputs(batch: Batch) -> dict[str, object]:
    """The keyword arguments of a transformers model for `batch`."""
    inputs: dict[str, object] = {
        "input_ids": batch.input_ids,
        "position_ids": batch.position_ids,
        "use_cache": False,
    }
    if batch.attention_mask is not None:
        inputs["attention_mask"] = batch.attention_mask
    else:
        assert batch.layout is not None
        inputs["layout"] = batch.layout.handle()
    return inputs


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


def is_elsewhere(parameter: nn.Parameter) -> bool:
    """Whether other ranks hold parts of it (FSDP, ZeRO-3)."""
    return isinstance(parameter, DTensor) or hasattr(parameter, "ds_id")


def is_frozen_here(parameter: nn.Parameter) -> bool:
    """Whether it is not trained, and whole on this rank."""
    return not parameter.requires_grad and not is_elsewhere(parameter)


def _sum_of_chunks(loss: RowsLoss, rows: Tensor, targets: Tensor) -> Tensor:
    # An empty selection is one empty chunk: the sum is 0 and every gradient exists and is 0, as
    # ranks that reduce the same tensors need.
    total = rows.new_zeros((), dtype=torch.float32)
    for chunk in zip(rows.split(CHUNK_ROWS), targets.split(CHUNK_ROWS), strict=True):
        total = total + loss(*chunk)
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
        for chunk, wanted, d_chunk in zip(
            *(each.split(CHUNK_ROWS) for each in (rows, targets, d_rows)), strict=True
        ):
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


def _cross_entropy_sum(logits: Tensor, targets: Tensor, unrounded: Tensor | None = None) -> Tensor:
    total: Tensor = _CrossEntropySum.apply(logits, targets, unrounded)
    return total


class _CrossEntropySum(Function):  # type: ignore[misc]  # torch is not type-checked
    """Σ -log softmax(logits)[target] in float32; logits [n, vocabulary], targets [n]. `unrounded`
    [n] are the targets' logits, where `logits` has them rounded: by a sixteenth where they are 20,
    which is most of what the loss of a token is off by. The others' errors cancel in their sum.

    Its gradient, softmax(logits) minus one at the target, overwrites the only float32 copy.
    """

    @staticmethod
    def forward(ctx: Any, logits: Tensor, targets: Tensor, unrounded: Tensor | None) -> Tensor:
        logs = log_softmax(logits, -1, dtype=torch.float32)
        places = targets[:, None]
        if unrounded is not None:
            rounded = logs.gather(1, places)
            off = unrounded[:, None] - logits.gather(1, places).float()
            # log of the sum of all once the target's share of it is the right one
            total = torch.log1p(rounded.exp() * torch.expm1(off))
            logs.scatter_(1, places, rounded + off - total)
        ctx.save_for_backward(logs, targets)
        ctx.dtype = logits.dtype
        return -logs.gather(1, places).sum()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        logs, targets = ctx.saved_tensors
        given = logs.exp_()
        given.scatter_add_(1, targets[:, None], given.new_full((len(targets), 1), -1.0))
        return given.to(ctx.dtype) * gradient.to(ctx.dtype), None, None
