"""Finds image files that are cut short or damaged before any work, in bounded memory where the format allows it."""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.opening import lacks_jpeg_end, opened
from linfusion_cli.png_chunks import Chunk, chunks_of, pieces

DRAFT = 8  # JPEG is decoded to an eighth of its width and height, from all of its data
FILLERS = (b"", bytes(64), b"\x5a\xc3\x17\xe8\x2d\x94\x6b\xb1" * 8)
PIECE_BYTES = 1 << 20
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def check_complete(image: Any, path: Path) -> str:
    """Reads all data of an opened image; returns a note about a fault that costs no pixel, "" for none.

    A JPEG and a PNG are read in bounded memory; others are decoded into `image`. Raises ImageError for a file that is
    cut short or damaged.
    """
    try:
        if image.format == "PNG":
            return _check_png(path)
        if image.format in ("JPEG", "MPO"):
            return _check_jpeg(path)
        image.load()
    except DECODER_ERRORS as error:
        raise ImageError(f"is damaged or cut short ({str(error)[:80]})") from error
    return ""


def _check_png(path: Path) -> str:
    """Inflates all pixels of a PNG, which finds missing and changed bytes, and keeps none of them."""
    left, inflater, note = -1, zlib.decompressobj(), ""
    with path.open("rb") as file:
        try:
            for chunk in chunks_of(file):
                if chunk.kind == b"IHDR":
                    left = _expected_bytes(file, chunk)
                elif chunk.kind == b"IDAT" and left > 0:
                    left -= _inflated(file, chunk, inflater, left)
        except ValueError as error:
            note = f"behind its pixels, {error}; they are all there"
            if left:
                raise
    if left:
        raise ValueError("pixels are missing")
    return note


def _expected_bytes(file: BinaryIO, chunk: Chunk) -> int:
    """The bytes of all rows, each behind its filter's byte."""
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", b"".join(pieces(file, chunk)))
    bits *= CHANNELS[colour]
    sizes = [(width, height)]
    if interlaced:
        sizes = [(-(-(width - x) // right), -(-(height - y) // down)) for x, y, right, down in ADAM7]
    return sum(high * (1 + -(-wide * bits // 8)) for wide, high in sizes if wide > 0 and high > 0)


def _inflated(file: BinaryIO, chunk: Chunk, inflater: Any, left: int) -> int:
    count = 0
    for piece in pieces(file, chunk):
        while piece and count < left:
            count += len(inflater.decompress(piece, PIECE_BYTES))
            piece = inflater.unconsumed_tail
    return min(count, left)


def _check_jpeg(path: Path) -> str:
    if not lacks_jpeg_end(path):
        with opened(path) as image:
            image.draft(image.mode, (max(1, image.width // DRAFT), max(1, image.height // DRAFT)))
            image.load()
        return ""
    # Behind complete data it makes no difference what follows; data that are missing are read from what follows.
    if len({_pixels_digest(path, filler) for filler in FILLERS}) > 1 or _lacks_scans(path.read_bytes()):
        raise ImageError("is cut short")
    return "its end marker is missing; its pixels are all there"


def _pixels_digest(path: Path, filler: bytes) -> str:
    with opened(path, filler) as image:
        image.load()
        digest = hashlib.sha256()
        for top in range(0, image.height, 64):
            digest.update(image.crop((0, top, image.width, min(top + 64, image.height))).tobytes())
    return digest.hexdigest()


def _lacks_scans(data: bytes) -> bool:
    """Whether a progressive JPEG lacks the scan that gives some coefficient its last bit (ITU-T T.81, G.1)."""
    start = data.find(b"\xff\xda", _end_of_header(data))
    if b"\xff\xc2" not in data[:start]:
        return False
    last_bits: dict[tuple[int, int], int] = {}
    components: set[int] = set()
    for match in re.finditer(rb"\xff\xda", data[start:]):
        with suppress(IndexError):
            body = data[start + match.start() + 4 :]
            count = body[0]
            first, last, bits = body[1 + 2 * count], body[2 + 2 * count], body[3 + 2 * count] & 15
            components |= set(body[1 : 1 + 2 * count : 2])
            last_bits |= {(body[1 + 2 * i], k): bits for i in range(count) for k in range(first, last + 1)}
    return any(last_bits.get((component, k), 1) for component in components for k in range(64))


def _end_of_header(data: bytes) -> int:
    """Where the first scan begins: segments are skipped, since a thumbnail inside of one has scans, too."""
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != 0xDA:
        position += 2 + int.from_bytes(data[position + 2 : position + 4], "big")
    return position
