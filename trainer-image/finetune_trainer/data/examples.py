"""Tokenized examples on disk: three flat NumPy arrays, memory-mapped on reading.

An example is one document: its token ids and, for each, whether it is supervised (its prediction
is trained). What the tokens mean does not belong here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

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
    """
    offsets = [0]
    raw = {name: directory / f"{name}.raw" for name in ("tokens", "supervised")}
    with raw["tokens"].open("wb") as tokens, raw["supervised"].open("wb") as supervised:
        for example in examples:
            if not len(example.tokens) or len(example.tokens) != len(example.supervised):
                raise ValueError("an example needs tokens, and one supervised flag for each")
            tokens.write(np.ascontiguousarray(example.tokens, dtype=np.int32).tobytes())
            supervised.write(np.ascontiguousarray(example.supervised, dtype=np.bool_).tobytes())
            offsets.append(offsets[-1] + len(example.tokens))
    for name, dtype in (("tokens", np.int32), ("supervised", np.bool_)):
        _to_npy(raw[name], directory / f"{name}.npy", np.dtype(dtype), offsets[-1])
    np.save(directory / "offsets.npy", np.asarray(offsets, dtype=np.int64))


def _to_npy(source: Path, target: Path, dtype: np.dtype[np.generic], length: int) -> None:
    if length:
        flat = np.memmap(source, dtype=dtype, mode="r", shape=(length,))
        np.save(target, flat)
    else:
        np.save(target, np.empty(0, dtype=dtype))
    source.unlink()
