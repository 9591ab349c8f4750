"""The tiles of an image, made once in the background and kept in the user's cache; a .dzi has them already."""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from linfusion_cli.errors import LinfusionError, OutputError, UsageError
from linfusion_cli.file_formats import BY_NAME, FileSettings
from linfusion_cli.files import read_regular
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.deep_zoom import OVERLAP_PX, TILE_PX, tiles_folder, write_levels
from linfusion_cli.output.formats.deep_zoom import level_count as level_count
from linfusion_cli.viewer.source import Rows, Source, open_source

QUALITY = 92
KEPT_IMAGES = 16  # whose tiles stay in the cache
ABANDONED_SECONDS = 86400.0  # after which tiles that nobody finished are removed
OVERVIEW_PX = 1024
DESCRIPTION_BYTES = 4 << 20
SETTINGS = FileSettings(format=BY_NAME["dzi"], lossless=False, quality=QUALITY)
Tile = tuple[int, int, int]  # level, column, row


@dataclass(slots=True)
class Pyramid:
    """The tiles of one image, LEVEL/COLUMN_ROW.ending in `folder`, and how far they are made.

    overview: the rows that are read so far at a glance, uint8 (height, width, 3), grey where none are
    """

    size: Size
    folder: Path
    ending: str = "jpg"
    tile_px: int = TILE_PX
    overlap_px: int = OVERLAP_PX
    note: str = ""
    ready: bool = True
    rows_read: int = 0
    error: str = ""
    overview: Rows = field(default_factory=lambda: np.zeros((1, 1, 3), np.uint8))

    def tile(self, tile: Tile) -> bytes | None:
        """The bytes of a tile; None for one that is not there."""
        level, column, row = tile
        if not self.ready:
            return None
        with suppress(OSError):
            return (self.folder / str(level) / f"{column}_{row}.{self.ending}").read_bytes()
        return None

    def overview_jpeg(self) -> bytes:
        """What is read so far, at most OVERVIEW_PX a side."""
        from PIL import Image

        data = io.BytesIO()
        Image.fromarray(self.overview).save(data, "JPEG", quality=QUALITY)
        return data.getvalue()


def open_pyramid(path: Path, cache: Path) -> tuple[Pyramid, threading.Thread | None]:
    """The tiles of an image file, and the thread that makes them, not started, where they are not in `cache` yet.

    Raises UsageError for what is no image that can be shown, OutputError where the cache can't be written.
    """
    if path.suffix.lower() == ".dzi":
        return _of_deep_zoom(path), None
    folder = cache / _key(path)
    source = open_source(path)
    if folder.is_dir():
        with suppress(OSError):
            os.utime(folder)
        return Pyramid(source.size, folder, note=source.note), None
    _make_cache(cache)
    pyramid = Pyramid(source.size, folder, note=source.note, ready=False, overview=_empty_overview(source.size))
    return pyramid, threading.Thread(target=_make, args=(pyramid, source), name="tiles", daemon=True)


def overview_of(path: Path) -> Rows:
    """A whole image at a glance, uint8, at most OVERVIEW_PX a side. Raises UsageError."""
    source = open_source(path)
    pyramid = Pyramid(source.size, Path(), overview=_empty_overview(source.size))
    for _ in _seen(source.rows(), pyramid):
        pass
    return pyramid.overview


def _of_deep_zoom(path: Path) -> Pyramid:
    """The tiles beside a .dzi of any program. Raises UsageError."""
    try:
        text = read_regular(path, DESCRIPTION_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{path}: can't be read ({error.strerror})") from error
    found = {
        name: re.search(rf"<(?:\w+:)?{element}\b[^>]*?\b{name}=[\"'](\w{{1,10}})[\"']", text)
        for element, names in (("Image", ("Format", "Overlap", "TileSize")), ("Size", ("Width", "Height")))
        for name in names
    }
    values = {name: match[1] for name, match in found.items() if match}
    ending = values.pop("Format", "")
    numbers = {name: int(value) for name, value in values.items() if value.isdigit()}
    if len(numbers) < 4 or ending not in ("jpg", "jpeg", "png") or not numbers["TileSize"]:
        raise UsageError(f"{path}: is not a deep zoom image (.dzi), or is damaged")
    folder = tiles_folder(path)
    if not folder.is_dir():
        raise UsageError(f'{path}: its tiles are missing: there is no folder "{folder}"')
    size = Size(numbers["Width"], numbers["Height"])
    return Pyramid(size, folder, ending, numbers["TileSize"], numbers["Overlap"], rows_read=size.height)


def _key(path: Path) -> str:
    """A name for the tiles of a file as it is now."""
    about = path.stat()
    return hashlib.sha256(f"{path.resolve()} {about.st_size} {about.st_mtime_ns}".encode()).hexdigest()[:24]


def _make_cache(cache: Path) -> None:
    """Makes the folder of all tiles, and removes those of images that were not looked at for longest."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
        folders = sorted(filter(Path.is_dir, cache.iterdir()), key=lambda folder: folder.stat().st_mtime)
    except OSError as error:
        raise OutputError(f"{cache}: can't hold the tiles of the image ({error.strerror})") from error
    whole = [folder for folder in folders if not folder.name.startswith(".")]
    abandoned = [folder for folder in folders if folder.stat().st_mtime < time.time() - ABANDONED_SECONDS]
    for folder in [*whole[: max(0, len(whole) - KEPT_IMAGES + 1)], *(set(abandoned) - set(whole))]:
        shutil.rmtree(folder, ignore_errors=True)


def _make(pyramid: Pyramid, source: Source) -> None:
    """Writes all tiles aside and gives them their name; what goes wrong becomes the pyramid's error."""
    part = Path()
    try:
        part = Path(tempfile.mkdtemp(prefix=".", dir=pyramid.folder.parent))
        write_levels(part, pyramid.size, SETTINGS, _seen(source.rows(), pyramid), pyramid.ending)
        with suppress(OSError):  # another process has made the same tiles meanwhile
            os.replace(part, pyramid.folder)
        pyramid.ready = pyramid.folder.is_dir()
    except (LinfusionError, OSError) as error:
        pyramid.error = str(error)
    except MemoryError:
        pyramid.error = f"{source.path}: memory ran out"
    finally:
        if part != Path():
            shutil.rmtree(part, ignore_errors=True)


def _seen(rows: Iterator[Rows], pyramid: Pyramid) -> Iterator[Rows]:
    """The same rows, of which some go into the overview. Raises UsageError for rows of another width or number."""
    factor = _overview_factor(pyramid.size)
    for piece in rows:
        if piece.shape[1] != pyramid.size.width or pyramid.rows_read + len(piece) > pyramid.size.height:
            raise UsageError("the file is damaged, or changed while it was read")
        first = -pyramid.rows_read % factor
        shown = piece[first::factor, ::factor]
        top = -(-pyramid.rows_read // factor)
        pyramid.overview[top : top + len(shown)] = shown
        pyramid.rows_read += len(piece)
        yield piece


def _overview_factor(size: Size) -> int:
    return -(-max(size.width, size.height) // OVERVIEW_PX)


def _empty_overview(size: Size) -> Rows:
    factor = _overview_factor(size)
    return np.full((-(-size.height // factor), -(-size.width // factor), 3), 40, dtype=np.uint8)
