"""Walks the chunks of a PNG (W3C PNG specification, section 5), whoever made it; decodes nothing."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

SIGNATURE = b"\x89PNG\r\n\x1a\n"
PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """A chunk's type, such as b"IDAT", and where its data is: first byte in the file, and length in bytes."""

    kind: bytes
    start: int
    length: int


def chunks_of(file: BinaryIO) -> Iterator[Chunk]:
    """Walks to IEND; the caller may read in between. Raises ValueError where the structure is broken."""
    end = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(8) != SIGNATURE:
        raise ValueError("it is not a PNG")
    position, kind = 8, b""
    while kind != b"IEND":
        file.seek(position)
        head = file.read(8)
        length, kind = struct.unpack(">I4s", head) if len(head) == 8 else (0, b"")
        if not kind or position + 12 + length > end:
            raise ValueError("it ends too early")
        yield Chunk(kind, position + 8, length)
        position += 12 + length
    if position != end:
        raise ValueError(f"{end - position} bytes follow its end")


def pieces(file: BinaryIO, chunk: Chunk) -> Iterator[bytes]:
    """The data of a chunk in pieces of at most PIECE_BYTES. Raises ValueError at the end if the checksum is wrong."""
    file.seek(chunk.start)
    crc, left = zlib.crc32(chunk.kind), chunk.length
    while left:
        piece = file.read(min(left, PIECE_BYTES))
        if not piece:
            raise ValueError("it ends too early")
        crc, left = zlib.crc32(piece, crc), left - len(piece)
        yield piece
    if file.read(4) != struct.pack(">I", crc):
        raise ValueError(f"the checksum of a chunk {chunk.kind!r} is wrong")


def whole(file: BinaryIO, chunk: Chunk, limit_bytes: int) -> bytes:
    """All data of a chunk. Raises ValueError if it is longer than limit_bytes, or its checksum is wrong."""
    if chunk.length > limit_bytes:
        raise ValueError(f"a chunk {chunk.kind!r} is {chunk.length:,} bytes long; at most {limit_bytes:,} are read")
    return b"".join(pieces(file, chunk))
