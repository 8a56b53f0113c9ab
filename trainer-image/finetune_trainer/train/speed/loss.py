"""The summed cross-entropy of the supervised positions, and of no others.

Hidden states are selected before the output head and go through it in chunks, so that the [tokens,
vocabulary] logits never exist as a whole, whatever the model does to them. How sums over
micro-batches and ranks become a mean is the recipe's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from finetune_trainer.train.batches import Batch

# Rows of logits that exist at a time: 1024 rows of a 152k vocabulary are 0.6 GB in float32.
CHUNK_ROWS = 1024


class SummedLoss(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal model as a function from a batch to its summed loss.

    `separable_head` says that the model can be cut after its decoder (`decode`, `head_logits`). Of
    one that cannot, all logits exist at once. `autocast` is the format of matrix products where it
    is not the parameters' own.
    """

    def __init__(
        self, model: PreTrainedModel, *, separable_head: bool, autocast: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.model = model
        self.separable_head = separable_head
        self.autocast = autocast

    def forward(self, batch: Batch) -> Tensor:
        """The sum over `batch.targets` of -log p(target), a float32 scalar; 0 if there are none."""
        device = batch.input_ids.device.type
        with torch.autocast(device, dtype=self.autocast, enabled=self.autocast is not None):
            return self._sum(batch)

    def _sum(self, batch: Batch) -> Tensor:
        if not self.separable_head:
            logits = self.model(**model_inputs(batch)).logits.flatten(0, 1)
            return _cross_entropy_sum(logits.index_select(0, batch.positions), batch.targets)
        output = decode(self.model, batch)
        rows = output.last_hidden_state.flatten(0, 1).index_select(0, batch.positions)
        # An empty selection is one empty chunk: the sum is 0 and every gradient exists and is 0, as
        # ranks that reduce the same tensors need.
        total = rows.new_zeros((), dtype=torch.float32)
        for chunk, targets in zip(
            rows.split(CHUNK_ROWS), batch.targets.split(CHUNK_ROWS), strict=True
        ):
            total = total + checkpoint(
                _head_loss, self.model, type(output), chunk, targets, use_reentrant=False
            )
        return total


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
        inputs["document_lengths"] = batch.document_lengths
    return inputs


def _head_loss(
    model: PreTrainedModel, kind: type[ModelOutput], rows: Tensor, targets: Tensor
) -> Tensor:
    return _cross_entropy_sum(head_logits(model, kind, rows), targets)


def _cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.float(), targets, reduction="sum")
