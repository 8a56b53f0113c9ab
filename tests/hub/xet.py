"""The two formats of the Xet upload protocol, as published: xorbs (packed chunks) and shards.

A xorb is a run of chunks, each plain, LZ4 or byte-grouped LZ4; a shard says of which chunks of
which xorbs each file consists. Here they only become plain bytes again.
Does not belong here: HTTP and storage.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

END = b"\xff" * 32
WITH_VERIFICATION, WITH_METADATA = 1 << 31, 1 << 30


class FormatError(ValueError):
    """The bytes are not what the protocol says."""


def hash_text(raw: bytes) -> str:
    """A hash is shown as four little-endian 64-bit numbers."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", raw))


@dataclass(frozen=True)
class Segment:
    """Chunks `start` to `end` (exclusive) of a xorb."""

    xorb: str
    size: int
    start: int
    end: int


@dataclass(frozen=True)
class FileRecipe:
    """A file as its segments, with the sha256 the client says it has."""

    segments: tuple[Segment, ...]
    sha256: str | None

    @property
    def size(self) -> int:
        return sum(segment.size for segment in self.segments)


def shard_files(shard: bytes) -> Iterator[FileRecipe]:
    position = 48
    while True:
        header = shard[position : position + 48]
        if len(header) < 48:
            raise FormatError("the shard ends inside its list of files")
        position += 48
        if header[:32] == END:
            return
        flags, count = struct.unpack_from("<II", header, 32)
        segments = []
        for index in range(count):
            entry = struct.unpack_from("<32sIIII", shard, position + 48 * index)
            segments.append(Segment(hash_text(entry[0]), *entry[2:]))
        position += 48 * count * (2 if flags & WITH_VERIFICATION else 1)
        sha256 = None
        if flags & WITH_METADATA:
            sha256 = hash_text(shard[position : position + 32])
            position += 48
        yield FileRecipe(tuple(segments), sha256)


def xorb_chunks(xorb: memoryview) -> Iterator[bytes]:
    position = 0
    while position + 8 <= len(xorb) and bytes(xorb[position : position + 7]) != b"XETBLOB":
        packed = int.from_bytes(xorb[position + 1 : position + 4], "little")
        scheme = xorb[position + 4]
        size = int.from_bytes(xorb[position + 5 : position + 8], "little")
        position += 8
        data = bytes(xorb[position : position + packed])
        position += packed
        chunk = data if scheme == 0 else lz4_frame(data)
        if scheme == 2:
            chunk = ungroup(chunk)
        if scheme > 2 or len(data) != packed or len(chunk) != size:
            raise FormatError("a chunk of the xorb is damaged or packed in an unknown way")
        yield chunk


def ungroup(data: bytes) -> bytes:
    """Undo byte grouping: all first bytes of every four, then all second bytes, and so on."""
    out, position = bytearray(len(data)), 0
    for lane in range(4):
        size = (len(data) - lane + 3) // 4
        out[lane::4] = data[position : position + size]
        position += size
    return bytes(out)


def lz4_frame(data: bytes) -> bytes:
    if len(data) < 7 or data[:4] != b"\x04\x22\x4d\x18":
        raise FormatError("a chunk is not an LZ4 frame")
    flags = data[4]
    position = 7 + (8 if flags & 0x08 else 0) + (4 if flags & 0x01 else 0)
    out = bytearray()
    try:
        while size := int.from_bytes(data[position : position + 4], "little"):
            position += 4
            plain, size = size >> 31, size & 0x7FFFFFFF
            block = data[position : position + size]
            position += size + (4 if flags & 0x10 else 0)
            if plain:
                out += block
            else:
                _lz4_block(block, out)
    except IndexError:
        raise FormatError("an LZ4 block ends too early") from None
    return bytes(out)


def _lz4_block(block: bytes, out: bytearray) -> None:
    position, end = 0, len(block)
    while True:
        token = block[position]
        position += 1
        length = token >> 4
        if length == 15:
            more = 255
            while more == 255:
                more = block[position]
                position += 1
                length += more
        if length:
            out += block[position : position + length]
            position += length
        if position >= end:
            return
        distance = block[position] | block[position + 1] << 8
        position += 2
        length = (token & 15) + 4
        if length == 19:
            more = 255
            while more == 255:
                more = block[position]
                position += 1
                length += more
        start = len(out) - distance
        if start < 0 or distance == 0:
            raise FormatError("an LZ4 block refers to bytes before its start")
        if distance >= length:
            out += out[start : start + length]
        else:
            # The match overlaps its own output: it repeats the last `distance` bytes.
            out += (out[start:] * (length // distance + 1))[:length]
