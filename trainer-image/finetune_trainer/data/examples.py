"""Tokenized examples on disk: three flat NumPy arrays, memory-mapped on reading.

An example is one document: its token ids and, for each, whether it is supervised (its prediction
is trained). What the tokens mean does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenized document: `tokens` and `supervised` have the same length, at least 1."""

    tokens: Tokens
    supervised: Mask


class Examples:
    """Random access to the examples in a directory that `write_examples` made."""

    def __init__(self, directory: Path) -> None:
        self._tokens = np.load(directory / "tokens.npy", mmap_mode="r")
        self._supervised = np.load(directory / "supervised.npy", mmap_mode="r")
        self._offsets: NDArray[np.int64] = np.load(directory / "offsets.npy")

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every example, shape [len(self)]."""
        return np.diff(self._offsets)

    @property
    def supervised_tokens(self) -> int:
        """Supervised tokens of all examples together."""
        return int(np.count_nonzero(self._supervised))

    def __getitem__(self, index: int) -> Example:
        span = slice(int(self._offsets[index]), int(self._offsets[index + 1]))
        return Example(tokens=self._tokens[span], supervised=self._supervised[span])


def write_examples(directory: Path, examples: Iterable[Example]) -> None:
    """Write `examples` into an existing directory, streaming.

    Raises:
        ValueError: an example is empty or its two arrays differ in length.
        OSError: the volume is full or lost.
    """
    length = 0
    with (
        _NpyFile(directory / "tokens.npy", np.int32) as tokens,
        _NpyFile(directory / "supervised.npy", np.bool_) as supervised,
        _NpyFile(directory / "offsets.npy", np.int64) as offsets,
    ):
        offsets.append(np.array([length]))
        for example in examples:
            if not len(example.tokens) or len(example.tokens) != len(example.supervised):
                raise ValueError("an example needs tokens, and one supervised flag for each")
            tokens.append(example.tokens)
            supervised.append(example.supervised)
            length += len(example.tokens)
            offsets.append(np.array([length]))


class _NpyFile:
    """A flat array on disk in NumPy's format, written piece by piece.

    `np.save` needs the whole array first, and on a full volume it raises an error without a number.
    """

    def __init__(self, path: Path, dtype: type[np.generic]) -> None:
        self._dtype = np.dtype(dtype)
        self._length = 0
        self._file = path.open("wb")
        self._header = self._write_header()

    def __enter__(self) -> _NpyFile:
        return self

    def __exit__(self, *_: object) -> None:
        with self._file:
            self._file.seek(0)
            # NumPy leaves room in the header for the length to grow.
            assert self._write_header() == self._header

    def append(self, values: NDArray[Any]) -> None:
        self._file.write(np.ascontiguousarray(values, dtype=self._dtype).tobytes())
        self._length += len(values)

    def _write_header(self) -> int:
        fields = {
            "descr": np.lib.format.dtype_to_descr(self._dtype),
            "fortran_order": False,
            "shape": (self._length,),
        }
        np.lib.format.write_array_header_1_0(self._file, fields)
        return self._file.tell()
