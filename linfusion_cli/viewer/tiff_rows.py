"""Reads a TIFF in rows of its tiles or strips by tifffile, where that is installed."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from linfusion_cli.images.errors import ImageError

RGB, GREY, CONTIGUOUS = 2, 1, 1  # of Photometric and PlanarConfiguration


def can_stream(path: Path) -> bool:
    """Whether the first image of a TIFF is grey or RGB of 8 or 16 bits, and tifffile is here to read it."""
    if importlib.util.find_spec("tifffile") is None:
        return False
    tifffile = importlib.import_module("tifffile")
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            plain = page.photometric == RGB and page.samplesperpixel == 3 and page.planarconfig == CONTIGUOUS
            grey = page.photometric == GREY and page.samplesperpixel == 1
            return (plain or grey) and str(page.dtype) in ("uint8", "uint16")
    except (tifffile.TiffFileError, ValueError, IndexError, OSError):
        return False


def tiff_rows(path: Path) -> Iterator[Any]:
    """The rows from the top, uint8 (rows, width, 3), a row of tiles at a time; of 16 bits the upper ones.

    Raises ImageError for a file that is damaged.
    """
    tifffile = importlib.import_module("tifffile")
    try:
        with tifffile.TiffFile(path) as file:
            page = file.pages[0]
            band: Any = None
            top = 0
            for segment, (_, _, row, column, _), _shape in page.segments(maxworkers=1):
                if band is not None and row != top:
                    yield band
                    band = None
                if band is None:
                    top = row
                    height = min(page.imagelength - row, page.tilelength if page.is_tiled else page.rowsperstrip)
                    band = np.zeros((height, page.imagewidth, 3), dtype=np.uint8)
                if segment is not None:
                    part = segment[0]
                    part = (part >> 8).astype(np.uint8) if part.dtype == np.uint16 else part
                    shown = part[: len(band), : page.imagewidth - column]
                    band[: len(shown), column : column + shown.shape[1]] = shown
            if band is not None:
                yield band
    except (tifffile.TiffFileError, ValueError, RuntimeError, OSError, IndexError) as error:
        raise ImageError(f"is damaged ({str(error)[:80]})") from error
