"""Says whether an image file of ours is whole: a look at both ends, or all of its pixels."""

from __future__ import annotations

import importlib
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from linfusion_cli.errors import OutputError
from linfusion_cli.file_formats import PNG, format_of_ending
from linfusion_cli.files import read_regular
from linfusion_cli.geometry import Size
from linfusion_cli.images.complete import check_complete
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.opening import opened
from linfusion_cli.output import png_reader
from linfusion_cli.output.formats.deep_zoom import TILE_PX, level_count, level_size, tiles_folder
from linfusion_cli.output.formats.jpeg import END
from linfusion_cli.png_chunks import SIGNATURE

DESCRIPTION_BYTES = 4 << 20  # of a .dzi that is read
_ENDS = {  # format -> how its files begin and end
    "png": (SIGNATURE, b"\0\0\0\0IEND\xaeB`\x82"),
    "jpeg": (b"\xff\xd8\xff", END),
    "webp": (b"RIFF", b""),
    "dzi": (b"<?xml", b"</Image>\n"),
}


def has_ends(path: str) -> bool:
    """Whether the first and the last bytes are those of its format; for formats without such, whether it has bytes."""
    known = format_of_ending(os.path.splitext(path)[1]) or PNG
    first, last = _ENDS.get(known.name, (b"", b""))
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(max(1, len(first)))
            file.seek(-max(1, len(last)), os.SEEK_END)
            return head.startswith(first) and file.read().endswith(last)
    except OSError:
        return False


def check(path: Path) -> None:
    """Reads all pixels. Raises OutputError that says what is wrong with the file."""
    known = format_of_ending(path.suffix) or PNG
    _CHECKS.get(known.name, _check_decodable)(path)


def _check_decodable(path: Path) -> None:
    try:
        with opened(path) as image:
            check_complete(image, path)
    except (ImageError, OSError) as error:
        raise OutputError(f"{str(path)!r} is damaged: {error}") from error


def _check_tiff(path: Path) -> None:
    tifffile = importlib.import_module("tifffile")
    try:
        with tifffile.TiffFile(path) as file:
            for level in file.series[0].levels:
                for _ in level.keyframe.segments():
                    pass
    except (*DECODER_ERRORS, tifffile.TiffFileError, RuntimeError, IndexError) as error:
        raise OutputError(f"{str(path)!r} is damaged: {str(error)[:100]}") from error


def _check_deep_zoom(path: Path) -> None:
    try:
        text = read_regular(path, DESCRIPTION_BYTES).decode("utf-8", "replace")
    except OSError as error:
        raise OutputError(f"Can't read {str(path)!r}: {error.strerror}") from error
    sides = re.search(r'<Size Width="(\d{1,10})" Height="(\d{1,10})"/>', text)
    ending = re.search(r'Format="(jpg|png)"', text)
    if not sides or not ending or not has_ends(str(path)):
        raise OutputError(f"{str(path)!r} is damaged: it is not a .dzi of linfusion, or is cut short")
    size = Size(int(sides[1]), int(sides[2]))
    for level in range(level_count(size)):
        part = level_size(size, level)
        for row in range(-(-part.height // TILE_PX)):
            for column in range(-(-part.width // TILE_PX)):
                tile = tiles_folder(path) / str(level) / f"{column}_{row}.{ending[1]}"
                if not has_ends(str(tile)):
                    raise OutputError(f"{str(path)!r} is damaged: the tile {str(tile)!r} is missing or cut short")


def _check_png(path: Path) -> None:
    png_reader.check(path)


_CHECKS: Mapping[str, Callable[[Path], None]] = {
    "png": _check_png,
    "tiff": _check_tiff,
    "dzi": _check_deep_zoom,
}
