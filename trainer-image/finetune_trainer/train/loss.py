"""The summed cross-entropy of the supervised positions, and of no others.

Hidden states are selected before the output head and go through it in chunks, so that the [tokens,
vocabulary] logits never exist as a whole. How sums over micro-batches and ranks become a mean is
the recipe's business.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from finetune_trainer.train.batches import Batch

# Rows of logits that exist at a time: 1024 rows of a 152k vocabulary are 0.6 GB in float32.
CHUNK_ROWS = 1024


class SummedLoss(nn.Module):  # type: ignore[misc]  # torch is not type-checked
    """A causal model as a function from a batch to its summed loss.

    `plain_head` says that logits are nothing but the output head applied to the last hidden state;
    a model that also scales or caps them computes them itself.
    """

    def __init__(self, model: PreTrainedModel, *, plain_head: bool) -> None:
        super().__init__()
        self.model = model
        self.plain_head = plain_head

    def forward(self, batch: Batch) -> Tensor:
        """The sum over `batch.targets` of -log p(target), a float32 scalar; 0 if there are none."""
        inputs = model_inputs(batch)
        if not self.plain_head:
            return _cross_entropy_sum(self._own_logits(batch, inputs), batch.targets)
        # The decoder without its head, by the name that transformers gives it.
        decoder = getattr(self.model, self.model.base_model_prefix)
        hidden = decoder(**inputs).last_hidden_state
        rows = hidden.flatten(0, 1).index_select(0, batch.positions)
        head = self.model.get_output_embeddings()
        # An empty selection is one empty chunk: the sum is 0 and every gradient exists and is 0, as
        # ranks that reduce the same tensors need.
        total = rows.new_zeros((), dtype=torch.float32)
        for chunk, targets in zip(
            rows.split(CHUNK_ROWS), batch.targets.split(CHUNK_ROWS), strict=True
        ):
            total = total + checkpoint(_head_loss, head, chunk, targets, use_reentrant=False)
        return total

    def _own_logits(self, batch: Batch, inputs: dict[str, object]) -> Tensor:
        if batch.attention_mask is None:
            logits = self.model(**inputs, logits_to_keep=batch.positions).logits
            return logits.flatten(0, 1)
        return self.model(**inputs).logits.flatten(0, 1).index_select(0, batch.positions)


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


def _head_loss(head: nn.Module, rows: Tensor, targets: Tensor) -> Tensor:
    return _cross_entropy_sum(head(rows), targets)


def _cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    return cross_entropy(logits.float(), targets, reduction="sum")
