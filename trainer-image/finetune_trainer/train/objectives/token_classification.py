"""A label for each word of a document, told by the word's first token."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, cat, tensor

from finetune_trainer.data.examples import Example, Examples
from finetune_trainer.train.objectives.entities import entities
from finetune_trainer.train.objectives.labelled import NO_LABEL, Labelled, LabelledBatch


class TokenClassification(Labelled):
    """Cross-entropy of the label of every supervised token; an example's labels are theirs, in
    their order.
    """

    counts = 4

    def targets(self, examples: Examples, documents: list[int]) -> int:
        """Labelled words."""
        return sum(len(examples.labels(index)) for index in documents)

    def measure(self, batch: LabelledBatch) -> Tensor:
        """The loss, how many words are right, and of the entities how many were found, how many
        were said to be there, and how many are: [5].
        """
        logits = self._logits(batch)
        counts = np.zeros(self.counts, dtype=np.float32)
        for labels, given in zip(
            batch.labels.cpu().numpy(), logits.argmax(-1).cpu().numpy(), strict=True
        ):
            kept = labels != NO_LABEL
            counts[0] += (labels == given)[kept].sum()
            actual = entities([self.names[label] for label in labels[kept]])
            found = entities([self.names[label] for label in given[kept]])
            counts[1:] += (len(actual & found), len(found), len(actual))
        return cat([self._loss(logits, batch)[None], tensor(counts, device=logits.device)])

    def metrics(self, counts: list[float], targets: float) -> dict[str, float]:
        """Accuracy of words; precision, recall and F1 of entities, all types together, if the
        labels name any.
        """
        right, found, given, actual = counts
        values = {"accuracy": right / targets}
        if any(name.startswith(("B-", "I-")) for name in self.names):
            values["precision"] = found / given if given else 0.0
            values["recall"] = found / actual if actual else 0.0
            values["f1"] = 2 * found / (given + actual) if given + actual else 0.0
        return values

    def _labels(self, rows: list[Example], length: int) -> NDArray[np.int64]:
        labels = np.full((len(rows), length), NO_LABEL, dtype=np.int64)
        for index, row in enumerate(rows):
            labels[index, : len(row.tokens)][np.asarray(row.supervised)] = row.labels
        return labels
