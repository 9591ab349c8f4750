"""Reads a baseline JPEG with restart markers, as linfusion writes them, in strips: no more than one is in memory.

Behind a restart marker nothing depends on what was before (ITU-T T.81, E.1.4). So eight rows of blocks, after which
the markers begin to count anew, are a JPEG of their own behind the header of the whole one.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from linfusion_cli.images.errors import ImageError

BASELINE = (0xC0, 0xC1)  # SOF0 and SOF1
OTHER_FRAMES = frozenset({*range(0xC2, 0xD0)} - {0xC4, 0xC8, 0xCC})
RESTART_INTERVAL, SCAN = 0xDD, 0xDA
COUNT = 8  # of restart markers, before they begin anew
PIECE_BYTES = 1 << 20
MOST_SEGMENT_BYTES = 64 << 20
MARKER = re.compile(rb"\xff[\xd0-\xd9]")
END = b"\xff\xd9"


@dataclass(frozen=True, slots=True)
class Strips:
    """How a JPEG falls into strips. header: all segments; height_at: where the frame's height stands in it."""

    header: bytes
    height_at: int
    height: int
    rows: int  # of a strip
    markers: int  # of a strip


def strips_in(path: Path) -> Strips | None:
    """The strips of a JPEG; None where it has none, or is not baseline: it has to be decoded whole."""
    try:
        with path.open("rb") as file:
            return _strips(file)
    except (IndexError, ValueError):
        return None


def _strips(file: BinaryIO) -> Strips | None:
    header, height_at, interval, frame = bytearray(file.read(2)), 0, 0, b""
    while True:
        mark = file.read(2)
        if len(mark) < 2 or mark[0] != 0xFF or mark[1] in OTHER_FRAMES or len(header) > MOST_SEGMENT_BYTES:
            return None
        length = file.read(2)
        body = file.read(int.from_bytes(length, "big") - 2)
        if mark[1] in BASELINE:
            height_at, frame = len(header) + 5, body
        if mark[1] == RESTART_INTERVAL:
            interval = int.from_bytes(body[:2], "big")
        header += mark + length + body
        if mark[1] == SCAN:
            break
    if not frame or not interval or body[0] != frame[5]:  # a scan for each component
        return None
    height, width = int.from_bytes(frame[1:3], "big"), int.from_bytes(frame[3:5], "big")
    factors = frame[7::3]
    across, down = (max(each >> 4 for each in factors), max(each & 15 for each in factors))
    blocks = -(-width // (8 * across)) if len(factors) > 1 else -(-width // 8)
    down = down if len(factors) > 1 else 1
    if not height or interval % blocks:
        return None
    return Strips(bytes(header), height_at, height, COUNT * (interval // blocks) * 8 * down, COUNT)


def jpeg_strips(path: Path, strips: Strips) -> Iterator[Any]:
    """The image from the top, each strip a Pillow image. Raises ImageError for a file that is damaged or cut short."""
    left = strips.height
    with path.open("rb") as file:
        file.seek(len(strips.header))
        for scan in _scans(file, strips.markers):
            rows = min(left, strips.rows)
            if rows <= 0:
                break
            yield _strip(scan, strips, rows)
            left -= rows
    if left > 0:
        raise ImageError(f"is cut short: it lacks {left} of {strips.height} rows")


def _scans(file: BinaryIO, markers: int) -> Iterator[bytes]:
    """The data between every `markers`-th restart marker, up to the end."""
    waiting, found, position = bytearray(), 0, 0
    while True:
        data = file.read(PIECE_BYTES)
        waiting += data
        while (mark := MARKER.search(waiting, position)) is not None:
            position = mark.end()
            if mark[0] == END:
                yield bytes(waiting[: mark.start()])
                return
            found += 1
            if found == markers:
                yield bytes(waiting[: mark.start()])
                del waiting[: mark.end()]
                found = position = 0
        position = max(position, len(waiting) - 1)  # a marker may begin with the last byte
        if not data:
            return


def _strip(scan: bytes, strips: Strips, rows: int) -> Any:
    from PIL import Image

    at = strips.height_at
    header = strips.header[:at] + rows.to_bytes(2, "big") + strips.header[at + 2 :]
    try:
        image = Image.open(io.BytesIO(header + scan + END), formats=("JPEG",))
        image.load()
    except (OSError, SyntaxError, ValueError) as error:
        raise ImageError(f"is damaged ({str(error)[:80]})") from error
    return image
