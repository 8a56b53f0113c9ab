"""Log-probabilities of the supervised tokens, one by one, where a task needs more than their sum.

Like `loss.py`, hidden states are selected before the output head and go through it in chunks. What
is made of the values is the objective's business.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from finetune_trainer.train.batches import Batch
from finetune_trainer.train.speed.loss import CHUNK_ROWS, decode, head_logits, model_inputs


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
    # An empty selection is one empty chunk, through which every gradient exists and is 0.
    return torch.cat(
        [
            checkpoint(_of_rows, model, type(output), chunk, targets, use_reentrant=False)
            for chunk, targets in zip(
                rows.split(CHUNK_ROWS), batch.targets.split(CHUNK_ROWS), strict=True
            )
        ]
    )


def _of_rows(
    model: PreTrainedModel, kind: type[ModelOutput], rows: Tensor, targets: Tensor
) -> Tensor:
    return _log_probabilities(head_logits(model, kind, rows), targets)


def _log_probabilities(logits: Tensor, targets: Tensor) -> Tensor:
    return -cross_entropy(logits.float(), targets, reduction="none")
