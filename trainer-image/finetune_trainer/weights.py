"""A safetensors checkpoint as its index and headers describe it; no weight is read.

Belongs here: the file format, and whether the files are all there and as long as they say. Does
not: which tensors a model needs, and what is done with them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

Shape = tuple[int, ...]

# The format's own limit; what claims more is no safetensors file.
_HEADER_LIMIT = 100_000_000


class BrokenWeightsError(Exception):
    """The files are no whole checkpoint; the message says which one is wrong, as a clause."""


@dataclass(frozen=True, slots=True)
class Stored:
    """Where a tensor lies: byte positions in `file`; `dtype` is safetensors' name of it."""

    file: Path
    dtype: str
    shape: Shape
    start: int
    stop: int


def read_checkpoint(directory: Path) -> dict[str, Stored]:
    """The tensors of a checkpoint in one file or several with an index.

    Raises:
        BrokenWeightsError: a file is missing, is not as long as its header says or is none of the
            format, or the index names a tensor that its file does not hold.
    """
    names = read_index(directory)
    if names is None:
        return read_header(directory / SINGLE)
    tensors: dict[str, Stored] = {}
    for file in sorted(set(names.values())):
        tensors |= read_header(directory / file)
    for name, file in sorted(names.items()):
        if name not in tensors or tensors[name].file.name != file:
            raise BrokenWeightsError(f"{INDEX} names {name}, which {file} does not hold")
    return tensors


def read_index(directory: Path) -> Mapping[str, str] | None:
    """The index's map from tensors to files; None if there is no index.

    Raises:
        BrokenWeightsError: it is no index.
    """
    try:
        names = json.loads((directory / INDEX).read_bytes())["weight_map"]
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        names = None
    if not isinstance(names, dict) or not all(isinstance(file, str) for file in names.values()):
        raise BrokenWeightsError(f"{INDEX} is damaged")
    return names


def read_header(file: Path) -> dict[str, Stored]:
    """The tensors of one safetensors file.

    Raises:
        BrokenWeightsError: as for `read_checkpoint`.
    """
    try:
        with file.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(0)
            length = int.from_bytes(stream.read(8), "little")
            if length > min(_HEADER_LIMIT, size):
                raise BrokenWeightsError(f"{file.name} is damaged: it has no header")
            header: dict[str, Any] = json.loads(stream.read(length))
        header.pop("__metadata__", None)
        tensors = {
            name: Stored(
                file,
                entry["dtype"],
                tuple(entry["shape"]),
                8 + length + entry["data_offsets"][0],
                8 + length + entry["data_offsets"][1],
            )
            for name, entry in header.items()
        }
    except FileNotFoundError:
        raise BrokenWeightsError(f"{file.name} is missing") from None
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise BrokenWeightsError(f"{file.name} is damaged: its header cannot be read") from error
    end = max((stored.stop for stored in tensors.values()), default=8 + length)
    if end != size:
        raise BrokenWeightsError(
            f"{file.name} is damaged: it has {size:,} bytes and should have {end:,}"
        )
    return tensors
