"""Reads a PNG of any kind but interlaced in bands of rows: no more than one band is in memory.

Pillow decodes only whole images. So each band is given to it as a small PNG of its own, which begins with the last row
of the band above as the filters of PNG need it (W3C PNG specification, section 9).
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from linfusion_cli.images.errors import ImageError
from linfusion_cli.png_chunks import SIGNATURE, chunks_of, pieces, whole

BAND_BYTES = 8 << 20  # of rows that are decoded at a time
PIECE_BYTES = 1 << 20
COLOUR_BYTES = 1 << 20  # of a palette or of transparent colours
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # of PNG's colour types
PALETTE, TRUECOLOUR = 3, 2
TYPE_OF_STEP = {1: 0, 2: 4, 3: 2, 4: 6}  # a colour type of 8 bits whose pixels have so many bytes
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class _Layout:
    """What the header says, and the chunks that give pixels their colours."""

    width: int
    height: int
    bits: int
    colour: int
    colours: tuple[tuple[bytes, bytes], ...]

    @property
    def row_bytes(self) -> int:
        return -(-self.width * CHANNELS[self.colour] * self.bits // 8)

    @property
    def step(self) -> int:
        """How many bytes before a byte the filters look."""
        return max(1, CHANNELS[self.colour] * self.bits // 8)


def is_interlaced(path: Path) -> bool:
    """Whether a PNG is stored in passes, of which the first rows are no rows of the image."""
    with path.open("rb") as file:
        return file.read(29)[28:29] == b"\1"


def png_bands(path: Path) -> Iterator[Any]:
    """The image from the top in bands, each a Pillow image of 8 bits a channel; of 16 bits the upper ones.

    Raises ImageError for a file that is damaged, cut short or interlaced.
    """
    try:
        with path.open("rb") as file:
            layout = _layout_of(file)
            taken = 0
            for rows in _unfiltered_bands(file, layout):
                taken += len(rows)
                yield _image_of(rows, layout)
    except (ValueError, struct.error, zlib.error, KeyError, SyntaxError) as error:
        raise ImageError(f"is damaged ({str(error)[:80]})") from error
    if taken != layout.height:
        raise ImageError(f"is cut short: it has {taken} of {layout.height} rows")


def _layout_of(file: BinaryIO) -> _Layout:
    header: tuple[int, ...] = ()
    colours = []
    for chunk in chunks_of(file):
        if chunk.kind == b"IHDR":
            header = struct.unpack(">IIBBBBB", whole(file, chunk, COLOUR_BYTES))
        elif chunk.kind in (b"PLTE", b"tRNS"):
            colours.append((chunk.kind, whole(file, chunk, COLOUR_BYTES)))
        elif chunk.kind == b"IDAT":
            break
    if not header or header[6]:
        raise ImageError("is interlaced" if header else "has no header")
    width, height, bits, colour = header[:4]
    return _Layout(width, height, bits, colour, tuple(colours))


def _unfiltered_bands(file: BinaryIO, layout: _Layout) -> Iterator[Bytes]:
    """The bytes of the rows, (rows, row_bytes)."""
    row_bytes = layout.row_bytes
    rows_at_once = max(1, min(layout.height, BAND_BYTES // row_bytes))
    above, waiting, left = bytes(row_bytes), bytearray(), layout.height
    for data in _inflated(file):
        waiting += data
        while left and len(waiting) >= (count := min(rows_at_once, left)) * (1 + row_bytes):
            rows = _unfiltered(bytes(waiting[: count * (1 + row_bytes)]), above, count, layout)
            del waiting[: count * (1 + row_bytes)]
            above, left = rows[-1].tobytes(), left - count
            yield rows


def _inflated(file: BinaryIO) -> Iterator[bytes]:
    inflater = zlib.decompressobj()
    for chunk in chunks_of(file):
        if chunk.kind == b"IDAT":
            for piece in pieces(file, chunk):
                rest = piece
                while rest:
                    yield inflater.decompress(rest, PIECE_BYTES)
                    rest = inflater.unconsumed_tail


def _unfiltered(filtered: bytes, above: bytes, count: int, layout: _Layout) -> Bytes:
    """Pillow takes the filters away: the row above comes first, as a row without one."""
    step, width = layout.step, layout.row_bytes // layout.step
    data = b"\0" + above + filtered
    if step <= 4:
        return _decoded(_png(width, count + 1, 8, TYPE_OF_STEP[step], data))[1:].reshape(count, -1)
    colour = TYPE_OF_STEP[step // 2]  # of 16 bits: Pillow keeps one of two bytes, as its raw mode says
    small = _png(width, count + 1, 16, colour, data)
    halves = [_decoded(small, order)[1:].reshape(count, -1) for order in ("B", "L")]
    return np.stack(halves, axis=2).reshape(count, -1)


def _decoded(png: bytes, order: str = "") -> Bytes:
    from PIL import Image

    with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
        if order:
            image.tile = [tile._replace(args=f"{image.mode};16{order}") for tile in image.tile]
        return np.asarray(image)


def _png(
    width: int, height: int, bits: int, colour: int, data: bytes, colours: tuple[tuple[bytes, bytes], ...] = ()
) -> bytes:
    """A PNG of these filtered rows, not compressed."""
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    chunks = [(b"IHDR", header), *colours, (b"IDAT", zlib.compress(data, 0)), (b"IEND", b"")]
    parts = [SIGNATURE]
    for kind, body in chunks:
        parts += [struct.pack(">I", len(body)), kind, body, struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))]
    return b"".join(parts)


def _image_of(rows: Bytes, layout: _Layout) -> Any:
    from PIL import Image

    bits, colours = layout.bits, layout.colours
    if bits == 16:
        rows, bits, colours = rows[:, ::2], 8, ()
    if bits == 8 and layout.colour == TRUECOLOUR and not any(kind == b"tRNS" for kind, _ in colours):
        return Image.fromarray(rows.reshape(len(rows), layout.width, 3))
    plain = np.concatenate([np.zeros((len(rows), 1), np.uint8), rows], axis=1).tobytes()
    image = Image.open(io.BytesIO(_png(layout.width, len(rows), bits, layout.colour, plain, colours)))
    image.load()
    return image
