"""The rows of a split: read from Arrow files one batch after another, so that memory does not grow
with the data.

How a data set becomes Arrow files belongs to `loader.py`, what the rows mean to `format.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from datasets import Features
from datasets.features.features import require_decoding

from finetune_trainer.outcome import StageError

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Part:
    """`take` rows of an Arrow file (-1: all), behind the first `skip`."""

    file: str
    skip: int
    take: int


class Rows:
    """The rows of a split, slices applied; at least one.

    Args:
        explained: turns the reader's complaint about a batch into a sentence.

    Attributes:
        features: the columns and their types.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        length: int,
        features: Features,
        explained: Callable[[Exception], StageError],
    ) -> None:
        self._parts = parts
        self._length = length
        self._explained = explained
        self.features = features

    def __len__(self) -> int:
        return self._length

    @property
    def column_names(self) -> list[str]:
        return list(self.features)

    def schema(self, columns: Sequence[str]) -> pa.Schema:
        """Arrow's types of `columns`, in this order."""
        # Of the file, which says more than the features do.
        with pa.OSFile(self._parts[0].file) as file, pa.ipc.open_stream(file) as stream:
            return pa.schema([stream.schema.field(column) for column in columns])

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """All rows with only `columns`, in the batches of the files.

        Raises:
            UserError: a text is not UTF-8.
        """
        for part in self._parts:
            first, position = part.skip, 0
            stop = first + part.take if part.take >= 0 else sys.maxsize
            # Not as a map, whose pages would stay with the process.
            with pa.OSFile(part.file) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    if position >= stop:
                        break
                    start = max(first - position, 0)
                    rows = batch.select(list(columns)).slice(start, stop - position - start)
                    position += len(batch)
                    if not len(rows):
                        continue
                    try:
                        rows.validate(full=True)
                    except pa.ArrowInvalid as error:
                        raise self._explained(error) from error
                    yield rows

    def decoder(self, columns: Sequence[str]) -> Callable[[list[Row]], list[Row]]:
        """What makes values of batches with `columns` those that the file holds: values of one
        column that are of several types are kept as JSON.
        """
        features = Features({column: self.features[column] for column in columns})
        if not any(require_decoding(feature) for feature in features.values()):
            return lambda rows: rows
        return lambda rows: [features.decode_example(row) for row in rows]
