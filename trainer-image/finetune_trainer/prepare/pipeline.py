"""From rows to blocks of tokenized examples, on all CPUs, in the order of the rows.

How a row is read and encoded belongs to `format.py` and `encode.py`; what is done with the blocks
to the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from finetune_trainer.data.examples import Block, Example
from finetune_trainer.outcome import UserError
from finetune_trainer.prepare.format import Document, Dropped, RowReader
from finetune_trainer.prepare.rows import Row, Rows
from finetune_trainer.prepare.tally import Tally
from finetune_trainer.prepare.workers import granted_cpus, ordered_map

# Of one task: small enough that a process holds little, large enough that sending costs little.
TASK_ROWS = 500
TASK_BYTES = 2**20


class Encodes(Protocol):
    """From documents to examples."""

    def encode(self, documents: Sequence[Document]) -> list[list[Example] | Dropped]:
        """The examples of each document, or why it is dropped."""
        ...


@dataclass(frozen=True, slots=True)
class Pipeline:
    """How the rows of one data set become examples.

    Attributes:
        vocabulary: how many tokens the model knows.
    """

    reader: RowReader
    encoder: Encodes
    vocabulary: int

    def blocks(self, rows: Rows, chosen: NDArray[np.bool_], tally: Tally) -> Iterator[Block]:
        """The examples of the `chosen` rows (shape [rows]); counted in `tally` as they pass.

        Raises:
            UserError: the tokenizer makes a token that the model does not know.
        """
        schema = rows.schema(self.reader.columns)
        decoded = rows.decoder(self.reader.columns)

        def encoded(task: pa.Buffer) -> tuple[Block, Tally]:
            return self._encode(decoded(pa.ipc.read_record_batch(task, schema).to_pylist()))

        for block, counted in ordered_map(encoded, _tasks(rows, self, chosen), granted_cpus()):
            tally.add(counted)
            yield block

    def _encode(self, rows: list[Row]) -> tuple[Block, Tally]:
        tally = Tally(rows=len(rows))
        documents: list[Document] = []
        for row in rows:
            try:
                documents.append(self.reader.read(row))
            except Dropped as reason:
                tally.drop(reason)
        examples: list[Example] = []
        for outcome in self.encoder.encode(documents):
            if isinstance(outcome, Dropped):
                tally.drop(outcome)
            else:
                tally.split += len(outcome) > 1
                examples += outcome
        block = Block.of(examples)
        self._require_known(int(block.tokens.max(initial=0)))
        return block, tally

    def _require_known(self, token: int) -> None:
        if token >= self.vocabulary:
            raise UserError(
                f"The tokenizer makes token {token}, but the model knows only "
                f"{self.vocabulary}: set spec.model.source to a model whose files belong together."
            )


def _tasks(rows: Rows, pipeline: Pipeline, chosen: NDArray[np.bool_]) -> Iterator[pa.Buffer]:
    """The chosen rows in small batches, as bytes of Arrow's own form: pickled, a slice would carry
    the whole batch with it.
    """
    start = 0
    for batch in rows.batches(pipeline.reader.columns):
        mask = chosen[start : start + len(batch)]
        start += len(batch)
        if not mask.all():
            batch = batch.filter(pa.array(mask))
        if not len(batch):
            continue
        size = max(1, min(TASK_ROWS, TASK_BYTES * len(batch) // max(1, batch.nbytes)))
        for first in range(0, len(batch), size):
            yield batch.slice(first, size).serialize()
