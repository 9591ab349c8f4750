"""An image file as rows from the top, read in bounded memory where its format allows that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from linfusion_cli.geometry import Size, bands
from linfusion_cli.images.colour import Conversion, colours_of
from linfusion_cli.images.decode import levels_of, read
from linfusion_cli.images.decoding_memory import check_free, reading_bytes
from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.input_image import naming
from linfusion_cli.images.opening import opened, orientation_of
from linfusion_cli.images.samples import samples_of
from linfusion_cli.viewer import jpeg_rows, png_rows, tiff_rows

Rows = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # (rows, width, 3), sRGB
NOTED_BYTES = 200_000_000  # of memory for an image that is decoded at once
LARGEST_DRAFT_PX = 36_000_000  # a larger JPEG that can't be streamed is shown at a half, a quarter or an eighth
STRIP_ROWS = 256


@dataclass(frozen=True, slots=True)
class Source:
    """An image to show. size: in pixels as seen; note: what a user should know of how it is read, "" for nothing."""

    path: Path
    size: Size
    note: str
    _rows: Callable[[], Iterator[Any]]

    def rows(self) -> Iterator[Rows]:
        """All rows from the top. Raises UsageError for a file that is damaged."""
        with naming(self.path, ""):
            try:
                yield from self._rows()
            except (SyntaxError, ValueError, EOFError) as error:
                raise ImageError(f"is damaged ({str(error)[:80]})") from error


def open_source(path: Path) -> Source:
    """Looks at the header of an image file. Raises UsageError for what is no image that can be read."""
    with naming(path, ""), opened(path) as image:
        size, upright = Size(image.width, image.height), orientation_of(image, path) == 1
        conversion = colours_of(image, path).conversion
        if image.format == "PNG" and upright and not png_rows.is_interlaced(path):
            return Source(path, size, "", lambda: _levels(png_rows.png_bands(path), conversion))
        if image.format == "TIFF" and conversion is None and tiff_rows.can_stream(path):
            return Source(path, size, "", lambda: tiff_rows.tiff_rows(path))
        if image.format in ("JPEG", "MPO") and upright:
            return _jpeg(path, image, conversion)
        turned = not upright and orientation_of(image, path) >= 5
        shown = Size(size.height, size.width) if turned else size
        cost = (str(image.format), samples_of(image).number_bytes, size)
        held = reading_bytes(*cost)
        note = f"{image.format} is decoded whole: {held / 1e9:.1f} GB" if held > NOTED_BYTES else ""
        return Source(path, shown, note, lambda: _whole(path, cost))


def _jpeg(path: Path, image: Any, conversion: Conversion | None) -> Source:
    size = Size(image.width, image.height)
    if (strips := jpeg_rows.strips_in(path)) is not None:
        return Source(path, size, "", lambda: _levels(jpeg_rows.jpeg_strips(path, strips), conversion))
    shrink = next(factor for factor in (1, 2, 4, 8) if size.area <= LARGEST_DRAFT_PX * factor**2 or factor == 8)
    shown = Size(-(-size.width // shrink), -(-size.height // shrink))
    note = f"this JPEG has no restart markers: it is shown at 1/{shrink} of its size" if shrink > 1 else ""
    return Source(path, shown, note, lambda: _drafted(path, shrink, conversion))


def _levels(parts: Iterator[Any], conversion: Conversion | None) -> Iterator[Any]:
    return (levels_of(part, conversion) for part in parts)


def _drafted(path: Path, shrink: int, conversion: Conversion | None) -> Iterator[Any]:
    with opened(path) as image:
        if shrink > 1:
            image.draft(image.mode, (max(1, image.width // shrink), max(1, image.height // shrink)))
        for strip in bands(image.height, STRIP_ROWS):
            yield levels_of(image.crop((0, strip.top, image.width, strip.bottom)), conversion)


def _whole(path: Path, cost: tuple[str, int, Size]) -> Iterator[Any]:
    """The rows of an image that is decoded at once. Raises ImageError where that takes more memory than is free."""
    check_free(*cost)
    pixels = read(path)
    for strip in bands(len(pixels), STRIP_ROWS):
        part = pixels[strip.rows]
        if part.dtype == np.uint16:
            part = part >> 8
        elif part.dtype != np.uint8:
            part = part * 255 + 0.5
        yield part.astype(np.uint8)
