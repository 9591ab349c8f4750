"""Every chunk is found in order and checked; a broken file is a ValueError, whatever is broken."""

from __future__ import annotations

import io
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.png_chunks import PIECE_BYTES, SIGNATURE, chunks_of, pieces, whole


def png(*chunks: tuple[bytes, bytes]) -> bytes:
    parts = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    ]
    return SIGNATURE + b"".join(parts)


@given(st.lists(st.tuples(st.sampled_from([b"IHDR", b"tEXt", b"eXIf"]), st.binary(max_size=50)), max_size=6))
def test_every_chunk_comes_back(chunks: list[tuple[bytes, bytes]]) -> None:
    file = io.BytesIO(png(*chunks))
    assert [(chunk.kind, whole(file, chunk, 50)) for chunk in chunks_of(file)] == [*chunks, (b"IEND", b"")]


@given(st.integers(0, 60))
def test_a_file_that_is_cut_anywhere_is_broken(length: int) -> None:
    data = png((b"tEXt", b"x" * 20))
    file = io.BytesIO(data[: min(length, len(data) - 1)])
    with pytest.raises(ValueError, match=r"not a PNG|too early"):
        list(chunks_of(file))


def test_what_follows_the_end_is_told() -> None:
    with pytest.raises(ValueError, match="3 bytes follow"):
        list(chunks_of(io.BytesIO(png() + b"abc")))


def test_a_wrong_checksum_and_a_long_chunk_are_told() -> None:
    data = bytearray(png((b"tEXt", b"hello")))
    data[17] ^= 1
    file = io.BytesIO(data)
    (chunk, _) = chunks_of(file)
    with pytest.raises(ValueError, match="checksum"):
        whole(file, chunk, 5)
    with pytest.raises(ValueError, match="at most 4"):
        whole(file, chunk, 4)


def test_a_large_chunk_comes_in_pieces() -> None:
    file = io.BytesIO(png((b"IDAT", bytes(2 * PIECE_BYTES + 1))))
    chunk = next(chunks_of(file))
    assert [len(piece) for piece in pieces(file, chunk)] == [PIECE_BYTES, PIECE_BYTES, 1]
