"""What is wrong with a data file, looked for after its reader gave up: line, encoding, end.

Readers tell positions in blocks of their own, and of a packed file that was cut off some tell
nothing at all. Which files belong to a data set is not known here.
"""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path, PurePath
from typing import BinaryIO

import pyarrow as pa
import zstandard
from pyarrow import parquet

GZIP, ZSTD = ".gz", ".zst"
_LINES = frozenset({".jsonl", ".ndjson"})
_TEXTS = frozenset({".json", ".csv", ".tsv", ".txt"}) | _LINES
UNPACKING_ERRORS = (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError)
BUFFER_BYTES = 2**20


def damage(name: str, path: Path) -> str | None:
    """What is wrong with the file at `path` and what helps, about the file `name`; None if nothing
    is found.
    """
    kinds = PurePath(name).suffixes
    packed = kinds[-1] if kinds and kinds[-1] in (GZIP, ZSTD) else None
    kind = kinds[-2 if packed else -1] if len(kinds) > bool(packed) else ""
    if not path.stat().st_size:
        return f'"{name}" is empty: fill it, or take it away'
    if kind == ".parquet":
        return _parquet_damage(name, path)
    try:
        with _opened(path, packed) as stream:
            if kind not in _TEXTS:
                return None
            found = _in_lines(stream, kind) if kind != ".json" else _in_document(stream)
    except UNPACKING_ERRORS as error:
        words = str(error).rstrip(".") or "it cannot be unpacked"
        return f'"{name}" is damaged ({words}): pack it again, or bring it here again'
    return f'"{name}" {found}' if found else None


def require_whole(path: Path) -> None:
    """Read a `.zst` file to its end, which nobody else misses.

    Raises:
        EOFError: it was cut off.
        zstandard.ZstdError: it is no such file.
    """
    frame = zstandard.ZstdDecompressor().decompressobj()
    with path.open("rb") as file:
        while part := file.read(BUFFER_BYTES):
            while part:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                frame.decompress(part)
                part = frame.unused_data
    if not frame.eof:
        raise EOFError("its end is missing")


def _parquet_damage(name: str, path: Path) -> str | None:
    try:
        parquet.read_metadata(path)
    except pa.ArrowInvalid:
        return f'"{name}" is damaged (no Parquet file, or cut off): write it again'
    return None


def _opened(path: Path, packed: str | None) -> BinaryIO:
    if packed == GZIP:
        return gzip.open(path)  # type: ignore[return-value]
    if packed == ZSTD:
        require_whole(path)
        return zstandard.open(path, "rb")  # type: ignore[no-any-return]
    return path.open("rb")


def _in_document(stream: BinaryIO) -> str | None:
    """Of one JSON document, or of one in every line."""
    first = stream.read(1)
    stream.seek(0)
    if first != b"[":
        return _in_lines(stream, ".jsonl")
    try:
        json.loads(stream.read().decode())
    except UnicodeDecodeError:
        return _not_utf8(None)
    except json.JSONDecodeError as error:
        return _not_json(error.lineno, error)
    return None


def _in_lines(stream: BinaryIO, kind: str) -> str | None:
    for number, line in enumerate(stream, start=1):
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            if kind not in _LINES or not text.strip():
                continue
            row = json.loads(text)
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeDecodeError:
            return _not_utf8(number)
        except UnicodeEncodeError:
            return f"has half of a surrogate pair in line {number}: take the character out"
        except json.JSONDecodeError as error:
            return _not_json(number, error)
        if not isinstance(row, dict):
            return (
                f"has no JSON object in line {number}: write one row a line, as an object with "
                "columns as keys"
            )
    return None


def _not_utf8(line: int | None) -> str:
    where = f" in line {line}" if line else ""
    return f"is not UTF-8{where}: convert it, for example with iconv -t UTF-8"


def _not_json(line: int, error: json.JSONDecodeError) -> str:
    return f"is not JSON in line {line} ({error.msg}): correct the line"
