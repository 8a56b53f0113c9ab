"""The formats of the Xet protocol, at their edges."""

from __future__ import annotations

import pytest
from pyarrow import Codec

from hub.xet import FormatError, lz4_frame, ungroup, xorb_chunks


def chunk(scheme: int, packed: bytes, size: int) -> bytes:
    sizes = len(packed).to_bytes(3, "little") + bytes([scheme]) + size.to_bytes(3, "little")
    return b"\0" + sizes + packed


@pytest.mark.parametrize("content", [b"a", b"ab" * 5000, bytes(range(256)) * 300, bytes(70000)])
def test_lz4_frames(content: bytes) -> None:
    packed = bytes(Codec("lz4").compress(content))
    assert lz4_frame(packed) == content


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 6, 7, 1001])
def test_byte_groups(size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    assert ungroup(b"".join(content[lane::4] for lane in range(4))) == content


def test_a_xorb_is_its_chunks_up_to_the_footer() -> None:
    packed = bytes(Codec("lz4").compress(b"second" * 100))
    xorb = chunk(0, b"first", 5) + chunk(1, packed, 600) + b"XETBLOB\1rest"
    assert list(xorb_chunks(memoryview(xorb))) == [b"first", b"second" * 100]


@pytest.mark.parametrize(
    "xorb",
    [
        chunk(0, b"short", 6),
        chunk(0, b"cut", 3)[:-1],
        chunk(1, b"no frame", 8),
        chunk(1, bytes(Codec("lz4").compress(b"x" * 500))[:-8], 500),
        chunk(9, b"unknown", 7),
    ],
)
def test_damage_is_refused(xorb: bytes) -> None:
    with pytest.raises(FormatError):
        list(xorb_chunks(memoryview(xorb)))
