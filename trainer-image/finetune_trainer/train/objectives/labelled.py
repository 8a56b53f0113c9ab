"""What tasks with a fixed set of labels share: documents in rows of their own, read by the model's
own forward pass, so that any architecture of transformers will do.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.train.batches import micro_batches
from finetune_trainer.train.objectives.objective import Objective

# What transformers gives a token that has no label.
NO_LABEL = -100


@dataclass(frozen=True, slots=True)
class LabelledBatch:
    """Documents padded at their end: `input_ids` and `attention_mask` [rows, T]; `labels` [rows] or
    [rows, T], NO_LABEL where nothing is trained.
    """

    input_ids: Tensor
    attention_mask: Tensor
    labels: Tensor


class Labelled(Objective[LabelledBatch]):
    """Cross-entropy of labels, summed. How they lie in a batch and are measured is the subclasses'.

    `capacity` is the most token positions of a forward pass, padding included; `autocast` the
    format of matrix products where it is not the parameters' own.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        capacity: int,
        autocast: torch.dtype | None,
        device: torch.device,
    ) -> None:
        self._model = model
        self._capacity = capacity
        self._autocast = autocast
        self._device = device
        self.names = [str(model.config.id2label[index]) for index in range(model.config.num_labels)]

    def loss(self, batch: LabelledBatch) -> Tensor:
        """The sum of -log p(label) over the labels of `batch`, a float32 scalar."""
        return self._loss(self._logits(batch), batch)

    def batches(self, examples: Examples, packs: list[list[int]]) -> list[list[int]]:
        """See `micro_batches`."""
        return micro_batches(packs, examples.lengths, capacity=self._capacity, padded=True)

    def collate(
        self, examples: Examples, documents: list[int], *, supervised: bool = True
    ) -> LabelledBatch:
        """Rows of `documents`; without `supervised` none has a label."""
        rows = [examples[index] for index in documents]
        shape = (len(rows), max(len(row.tokens) for row in rows))
        # The model finds the end of a row by the padding token.
        padding = self._model.config.get_text_config().pad_token_id or 0
        tokens = np.full(shape, padding, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for index, row in enumerate(rows):
            tokens[index, : len(row.tokens)] = row.tokens
            mask[index, : len(row.tokens)] = 1
        labels = self._labels(rows, shape[1])
        if not supervised:
            labels = np.full_like(labels, NO_LABEL)
        return LabelledBatch(
            *(torch.from_numpy(array).to(self._device) for array in (tokens, mask, labels))
        )

    def _labels(self, rows: list[Example], length: int) -> np.ndarray:
        """The labels of `rows` padded to `length`, int64."""
        raise NotImplementedError

    def _logits(self, batch: LabelledBatch) -> Tensor:
        """[rows, labels] or [rows, T, labels], float32."""
        device = batch.input_ids.device.type
        with torch.autocast(device, dtype=self._autocast, enabled=self._autocast is not None):
            output = self._model(input_ids=batch.input_ids, attention_mask=batch.attention_mask)
        return output.logits.float()

    def _loss(self, logits: Tensor, batch: LabelledBatch) -> Tensor:
        return cross_entropy(
            logits.flatten(0, -2), batch.labels.flatten(), ignore_index=NO_LABEL, reduction="sum"
        )
