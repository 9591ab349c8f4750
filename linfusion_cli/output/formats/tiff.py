"""Tiled TIFF, and BigTIFF where 4 GB may not do, written by tifffile while the rows come in; with smaller levels."""

from __future__ import annotations

import contextlib
import importlib
import tempfile
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from linfusion_cli.file_formats import CHANNELS, FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.output.atomic_file import AtomicFile
from linfusion_cli.output.formats.colour import icc_profile
from linfusion_cli.output.formats.exif_xmp import PARAMETERS, xmp_packet
from linfusion_cli.output.formats.strips import Rows, halved, strips_of

TILE_PX = 256
SMALLEST_LEVEL_PX = 256  # levels end where the longer side is no longer than this
LARGEST_CLASSIC_BYTES = (1 << 32) - (1 << 25)  # offsets have 32 bits; some are left for tags
XMP_TAG, BYTE = 700, 1
INCH = 2
COMPRESSIONS = {"deflate": "zlib", "zstd": "zstd", "none": None}


def write_tiff(
    file: AtomicFile, size: Size, settings: FileSettings, texts: Mapping[str, str], rows: Iterator[Rows]
) -> None:
    """Writes tiles of 256x256. The smaller levels of a pyramid wait, not compressed, in a file without a name."""
    tifffile = importlib.import_module("tifffile")
    levels = level_sizes(size) if settings.pyramid else []
    bigtiff = settings.largest_bytes(size) > LARGEST_CLASSIC_BYTES
    with file.explained(), contextlib.ExitStack() as spools:
        writer = spools.enter_context(tifffile.TiffWriter(file.seekable(), bigtiff=bigtiff))
        tags = {"subifds": len(levels), **_tags(settings, texts)}
        for number, level in enumerate([size, *levels]):
            smaller = levels[number : number + 1]
            spool = spools.enter_context(_Spool.beside(file, smaller[0], settings.bits)) if smaller else None
            shape = (level.height, level.width, CHANNELS)
            writer.write(_tiles(_kept(rows, spool) if spool else rows), shape=shape, **tags, **_layout(settings))
            rows = spool.rows() if spool else iter(())
            tags = {"subfiletype": 1, "metadata": None, "software": False}


def level_sizes(size: Size) -> list[Size]:
    """The sizes of the smaller levels, each half of the one before, rounded up."""
    levels: list[Size] = []
    while max(size.width, size.height) > SMALLEST_LEVEL_PX:
        size = Size(-(-size.width // 2), -(-size.height // 2))
        levels.append(size)
    return levels


def _layout(settings: FileSettings) -> dict[str, Any]:
    compression = COMPRESSIONS[settings.tiff_compression]
    return {
        "dtype": np.uint16 if settings.bits == 16 else np.uint8,
        "photometric": "rgb",
        "planarconfig": "contig",
        "tile": (TILE_PX, TILE_PX),
        "compression": compression,
        "predictor": compression is not None,
    }


def _tags(settings: FileSettings, texts: Mapping[str, str]) -> dict[str, Any]:
    packet = xmp_packet(texts)
    words = texts[PARAMETERS]
    resolution = {"resolution": (settings.dpi, settings.dpi), "resolutionunit": INCH} if settings.dpi else {}
    return {
        "description": words if words.isascii() else words.encode("utf-8", "backslashreplace"),
        "software": "linfusion",
        "metadata": None,
        "iccprofile": icc_profile(settings.color_profile),
        "extratags": [(XMP_TAG, BYTE, len(packet), packet, True)],
        **resolution,
    }


def _tiles(rows: Iterator[Rows]) -> Iterator[Rows]:
    """The tiles from left to right and from the top; what lacks at the edges repeats the last pixels."""
    for strip in strips_of(rows, TILE_PX):
        lacks = ((0, TILE_PX - len(strip)), (0, -strip.shape[1] % TILE_PX), (0, 0))
        padded = np.pad(strip, lacks, mode="edge")
        for left in range(0, padded.shape[1], TILE_PX):
            yield np.ascontiguousarray(padded[:, left : left + TILE_PX])


class _Spool:
    """The pixels of a level, in a temporary file that has no name and goes with the process."""

    def __init__(self, stream: Any, size: Size, bits: int) -> None:
        self._stream, self._size, self._dtype = stream, size, np.dtype(np.uint16 if bits == 16 else np.uint8)

    @staticmethod
    def beside(file: AtomicFile, size: Size, bits: int) -> _Spool:
        return _Spool(tempfile.TemporaryFile(dir=file.path.absolute().parent), size, bits)

    def __enter__(self) -> _Spool:
        return self

    def __exit__(self, *failure: object) -> None:
        with contextlib.suppress(OSError):  # on a full disk: what is left in its buffer is no loss
            self._stream.close()

    def add(self, rows: Rows) -> None:
        self._stream.write(rows.tobytes())

    def rows(self) -> Iterator[Rows]:
        """All rows, in strips; the file ends with them."""
        self._stream.seek(0)
        row_bytes = self._size.width * CHANNELS * self._dtype.itemsize
        while data := self._stream.read(TILE_PX * row_bytes):
            yield np.frombuffer(data, self._dtype).reshape(-1, self._size.width, CHANNELS)
        self.__exit__()


def _kept(rows: Iterator[Rows], spool: _Spool) -> Iterator[Rows]:
    """The same rows, of which the spool gets half of the rows and columns."""
    for strip in strips_of(rows, TILE_PX):
        spool.add(halved(strip))
        yield strip
