"""Tokenized examples on disk: a few flat NumPy arrays, memory-mapped on reading.

Blocks of many examples are written at once, so that ten million of them cost no ten million calls.

An example is one document: its token ids and, for each, whether it is supervised (its prediction
is trained). Tasks other than Generation add whole numbers, the labels. What tokens and labels mean
does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int32]
Mask = NDArray[np.bool_]
Labels = NDArray[np.int32]

BUFFER_BYTES = 2**22


def _none() -> Labels:
    return np.empty(0, dtype=np.int32)


@dataclass(frozen=True, slots=True)
class Example:
    """One tokenized document: `tokens` and `supervised` have the same length, at least 1.

    `labels` are as many as the task has of one example.
    """

    tokens: Tokens
    supervised: Mask
    labels: Labels = field(default_factory=_none)


@dataclass(frozen=True, slots=True)
class Block:
    """Many examples behind one another: `tokens` and `supervised` have shape [tokens], `labels`
    [labels], `lengths` and `label_counts` [examples].
    """

    tokens: Tokens
    supervised: Mask
    labels: Labels
    lengths: NDArray[np.int64]
    label_counts: NDArray[np.int64]

    @classmethod
    def of(cls, examples: Sequence[Example]) -> Block:
        """The examples as one block.

        Raises:
            ValueError: an example is empty or its two arrays differ in length.
        """
        for example in examples:
            if not len(example.tokens) or len(example.tokens) != len(example.supervised):
                raise ValueError("an example needs tokens, and one supervised flag for each")
        return cls(
            tokens=_joined([example.tokens for example in examples], np.int32),
            supervised=_joined([example.supervised for example in examples], np.bool_),
            labels=_joined([example.labels for example in examples], np.int32),
            lengths=np.array([len(example.tokens) for example in examples], dtype=np.int64),
            label_counts=np.array([len(example.labels) for example in examples], dtype=np.int64),
        )


class BrokenExamplesError(Exception):
    """The files are not what was written; the message says which one, as a clause."""


class Examples:
    """Random access to the examples in a directory that `write_examples` made.

    Raises:
        BrokenExamplesError: a file is missing or cut off, or they do not belong together. What
            tokens and labels are is not checked.
    """

    def __init__(self, directory: Path) -> None:
        self._tokens = _load(directory / "tokens.npy", mapped=True)
        self._supervised_file = directory / "supervised.npy"
        self._supervised = _load(self._supervised_file, mapped=True)
        self._offsets: NDArray[np.int64] = _load(directory / "offsets.npy")
        self._labels = _none()
        self._label_offsets: NDArray[np.int64] | None = None
        _require_spans(self._offsets, self._tokens, directory, shortest=1)
        _require_spans(self._offsets, self._supervised, directory, shortest=1)
        if (directory / "labels.npy").exists():
            self._labels = _load(directory / "labels.npy", mapped=True)
            self._label_offsets = _load(directory / "label_offsets.npy")
            _require_spans(self._label_offsets, self._labels, directory, shortest=0)

    def __len__(self) -> int:
        return len(self._offsets) - 1

    @cached_property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of every example, shape [len(self)]."""
        return np.diff(self._offsets)

    @property
    def supervised_tokens(self) -> int:
        """Supervised tokens of all examples together."""
        # Through a buffer: pages of a map that were touched stay with the process.
        with self._supervised_file.open("rb") as file:
            file.seek(self._supervised.offset)
            pieces = iter(lambda: file.read(BUFFER_BYTES), b"")
            return sum(int(np.count_nonzero(np.frombuffer(p, dtype=np.bool_))) for p in pieces)

    def __getitem__(self, index: int) -> Example:
        span = slice(int(self._offsets[index]), int(self._offsets[index + 1]))
        return Example(self._tokens[span], self._supervised[span], self.labels(index))

    def labels(self, index: int) -> Labels:
        """Those of one example."""
        if self._label_offsets is None:
            return _none()
        return self._labels[int(self._label_offsets[index]) : int(self._label_offsets[index + 1])]

    @property
    def distinct_labels(self) -> set[int]:
        """Every label that any example has."""
        return set(np.unique(self._labels).tolist())

    @property
    def first_labels(self) -> Labels:
        """The first label of every example, where each has one, shape [len(self)]."""
        assert self._label_offsets is not None, "examples of a task without labels"
        return self._labels[self._label_offsets[:-1]]


def _load(path: Path, *, mapped: bool = False) -> Any:
    try:
        return np.load(path, mmap_mode="r" if mapped else None)
    except FileNotFoundError:
        raise BrokenExamplesError(f"{path.parent.name}/{path.name} is missing") from None
    except (ValueError, EOFError) as error:
        raise BrokenExamplesError(f"{path.parent.name}/{path.name} is damaged") from error


def _require_spans(
    offsets: NDArray[np.int64], values: NDArray[Any], directory: Path, *, shortest: int
) -> None:
    if (
        len(offsets)
        and offsets[0] == 0
        and offsets[-1] == len(values)
        and (np.diff(offsets) >= shortest).all()
    ):
        return
    raise BrokenExamplesError(f"the files in {directory.name}/ do not belong together")


def write_examples(directory: Path, blocks: Iterable[Block], *, labelled: bool = False) -> None:
    """Write the examples of `blocks` into an existing directory, streaming; their labels only if
    `labelled`.

    Raises:
        OSError: the volume is full or lost.
    """
    with ExitStack() as stack:

        def file(name: str, dtype: type[np.generic]) -> _NpyFile:
            return stack.enter_context(_NpyFile(directory / f"{name}.npy", dtype))

        tokens, supervised = file("tokens", np.int32), file("supervised", np.bool_)
        offsets = _Offsets(file("offsets", np.int64))
        labels = file("labels", np.int32) if labelled else None
        label_offsets = _Offsets(file("label_offsets", np.int64)) if labelled else None
        for block in blocks:
            tokens.append(block.tokens)
            supervised.append(block.supervised)
            offsets.append(block.lengths)
            if labels is not None and label_offsets is not None:
                labels.append(block.labels)
                label_offsets.append(block.label_counts)


class _Offsets:
    """Where each of many lengths begins, and where the last one ends."""

    def __init__(self, file: _NpyFile) -> None:
        self._file = file
        self._end = 0
        file.append(np.array([0]))

    def append(self, lengths: NDArray[np.int64]) -> None:
        self._file.append(self._end + np.cumsum(lengths))
        self._end += int(lengths.sum())


def _joined(parts: Sequence[NDArray[Any]], dtype: type[np.generic]) -> NDArray[Any]:
    return np.concatenate([np.empty(0, dtype=dtype), *parts])


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
