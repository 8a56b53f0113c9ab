"""One label for each document."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.train.objectives.labelled import Labelled, LabelledBatch


class Classification(Labelled):
    """Cross-entropy of every document's label; an example's only label is its class."""

    def __init__(
        self,
        model: PreTrainedModel,
        *,
        capacity: int,
        autocast: torch.dtype | None,
        device: torch.device,
    ) -> None:
        super().__init__(model, capacity=capacity, autocast=autocast, device=device)
        self.counts = 3 * len(self.names)

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Documents."""
        return len(documents)

    def measure(self, batch: LabelledBatch) -> Tensor:
        """The loss, and for every class how many documents were rightly given it, how many were
        given it, and how many are of it: [1 + 3 classes].
        """
        logits = self._logits(batch)
        kept = batch.labels >= 0
        actual, given = batch.labels[kept], logits.argmax(-1)[kept]
        counts = [
            torch.bincount(each, minlength=len(self.names))
            for each in (actual[actual == given], given, actual)
        ]
        return torch.cat([self._loss(logits, batch)[None], *(each.float() for each in counts)])

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """Accuracy, and the mean of the F1 of all classes that occur or were given, each class
        counting alike.
        """
        right, given, actual = np.array(counts).reshape(3, -1)
        both = given + actual
        return {
            "accuracy": float(right.sum() / targets),
            "macro_f1": float(np.mean(2 * right[both > 0] / both[both > 0])),
        }

    def _labels(self, rows: list[Example], length: int) -> NDArray[np.int64]:
        return np.array([row.labels[0] for row in rows], dtype=np.int64)
