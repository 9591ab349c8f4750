"""Deep zoom: a .dzi file and a folder of tiles in levels (Microsoft's Deep Zoom, which OpenSeadragon reads).

Each level is half of the one above, rounded up, down to one pixel. Tiles overlap by a pixel on every inner side. All
levels grow together while the rows come in: each holds no more than a row of tiles.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from linfusion_cli.file_formats import FileSettings
from linfusion_cli.files import TEMPORARY_SUFFIX, read_regular, replacing
from linfusion_cli.geometry import Size
from linfusion_cli.output.atomic_file import AtomicFile, is_abandoned
from linfusion_cli.output.formats.colour import icc_profile
from linfusion_cli.output.formats.exif_xmp import xmp_packet
from linfusion_cli.output.formats.jpeg import jpeg_bytes
from linfusion_cli.output.formats.strips import Rows, halved

TILE_PX, OVERLAP_PX = 254, 1
MARK = ".unfinished"  # beside the tiles until the .dzi has its name: the temporary file that becomes it
_DESCRIPTION = """<?xml version="1.0" encoding="UTF-8"?>
<Image xmlns="http://schemas.microsoft.com/deepzoom/2008" Format="{ending}" Overlap="{overlap}" TileSize="{tile}">
<Size Width="{width}" Height="{height}"/>
<Metadata>{xmp}</Metadata>
</Image>
"""


def tiles_folder(path: Path) -> Path:
    """The folder of the tiles of a .dzi file."""
    return path.with_name(f"{path.stem}_files")


def write_deep_zoom(
    file: AtomicFile, size: Size, settings: FileSettings, texts: Mapping[str, str], rows: Iterator[Rows]
) -> None:
    """Writes the tiles and gives their folder its name; the .dzi gets its own last: one that is there has them all."""
    folder, ending = tiles_folder(file.path), "png" if settings.lossless else "jpg"
    packet = xmp_packet(texts).decode("utf-8").partition("?>")[2].rpartition("<?xpacket")[0]  # its element alone
    text = _DESCRIPTION.format(
        ending=ending, overlap=OVERLAP_PX, tile=TILE_PX, width=size.width, height=size.height, xmp=packet
    )
    file.write(text.encode())  # first, while it has no name: a full disk is found before the tiles have theirs
    if is_leftover(file.path):
        _move_aside(file)
    with file.explained(), replacing(folder) as part:
        part.mkdir()
        (part / MARK).write_text(file.temporary_name, encoding="utf-8")
        write_levels(part, size, settings, rows, ending)
        if file.overwrite:
            file.path.unlink(missing_ok=True)  # no .dzi may stand beside tiles of another image
            if folder.is_dir() and not folder.is_symlink():
                shutil.rmtree(folder)


def finish(path: Path) -> None:
    """Takes the mark off the tiles once the .dzi has its name; of one that got none the tiles go, too."""
    if os.path.lexists(path):
        with contextlib.suppress(OSError):  # beside a whole image a mark means nothing
            (tiles_folder(path) / MARK).unlink()
    else:
        shutil.rmtree(tiles_folder(path), ignore_errors=True)


def is_leftover(path: Path) -> bool:
    """Whether the tiles there are of a run that was killed before their .dzi got its name."""
    return not os.path.lexists(path) and (tiles_folder(path) / MARK).is_file()


def _move_aside(file: AtomicFile) -> None:
    """Leaves the tiles of a killed run to replacing(), which removes them; those of one that still writes stay."""
    folder = tiles_folder(file.path)
    with file.explained():
        owner = Path(os.fsdecode(read_regular(folder / MARK, 1024))).name or "?"
        if is_abandoned(file.path.with_name(owner)):
            aside = folder.with_name(folder.name + TEMPORARY_SUFFIX)
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(folder, aside)


def level_count(size: Size) -> int:
    """How many levels there are, with the one of a single pixel: ceil(log2(longer side)) + 1."""
    return (max(size.width, size.height) - 1).bit_length() + 1


def level_size(size: Size, level: int) -> Size:
    """The size of a level in pixels; the highest is the image's own."""
    factor = 1 << (level_count(size) - 1 - level)
    return Size(-(-size.width // factor), -(-size.height // factor))


def write_levels(folder: Path, size: Size, settings: FileSettings, rows: Iterator[Rows], ending: str) -> None:
    """Writes all tiles of rows, uint8 (rows, width, 3), into `folder`, which is there: LEVEL/COLUMN_ROW.ending."""
    level: _Level | None = None
    for number in range(level_count(size)):
        level = _Level(folder / str(number), level_size(size, number), level, settings, ending)
    if level is not None:
        for piece in rows:
            level.add(piece)


class _Level:
    """One level: rows come in, tiles go out, and half of the rows and columns goes on to the level below."""

    def __init__(self, folder: Path, size: Size, below: _Level | None, settings: FileSettings, ending: str) -> None:
        folder.mkdir()
        self._folder, self._size, self._below = folder, size, below
        self._settings, self._ending = settings, ending
        self._kept: list[Rows] = []  # rows from self._top on
        self._top, self._taken, self._next_tile_row = 0, 0, 0
        self._odd: Rows | None = None

    def add(self, rows: Rows) -> None:
        """Takes the next rows."""
        self._kept.append(rows.copy())
        self._taken += len(rows)
        self._halve(rows)
        while self._next_tile_row * TILE_PX < self._size.height and self._taken >= self._needed():
            self._write_tiles()

    def _needed(self) -> int:
        """How many rows the next row of tiles ends with."""
        return min(self._size.height, (self._next_tile_row + 1) * TILE_PX + OVERLAP_PX)

    def _write_tiles(self) -> None:
        top = max(0, self._next_tile_row * TILE_PX - OVERLAP_PX)
        kept = np.concatenate(self._kept)
        strip = kept[top - self._top : self._needed() - self._top]
        for column in range(-(-self._size.width // TILE_PX)):
            left = max(0, column * TILE_PX - OVERLAP_PX)
            tile = strip[:, left : (column + 1) * TILE_PX + OVERLAP_PX]
            path = self._folder / f"{column}_{self._next_tile_row}.{self._ending}"
            path.write_bytes(_tile_bytes(np.ascontiguousarray(tile), self._settings))
        self._next_tile_row += 1
        first = max(0, self._next_tile_row * TILE_PX - OVERLAP_PX)  # of the next row of tiles
        self._kept, self._top = [kept[first - self._top :].copy()], first

    def _halve(self, rows: Rows) -> None:
        if self._below is None:
            return
        if self._odd is not None:
            rows = np.concatenate([self._odd, rows])
            self._odd = None
        if len(rows) % 2 and self._taken < self._size.height:
            self._odd, rows = rows[-1:].copy(), rows[:-1]
        if len(rows):
            self._below.add(halved(rows))


def _tile_bytes(tile: Rows, settings: FileSettings) -> bytes:
    tagged: dict[str, Any] = {}
    if settings.color_profile != "srgb":  # what has no profile is sRGB, and there are thousands of tiles
        tagged["icc_profile"] = icc_profile(settings.color_profile)
    if not settings.lossless:
        return jpeg_bytes(tile, settings, **tagged)
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(tile).save(buffer, "PNG", **tagged)
    return buffer.getvalue()
