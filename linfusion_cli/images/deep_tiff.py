"""TIFF images that Pillow does not open, or reads wrongly: by tifffile, where that is installed.

These are colours of float or 32-bit samples, and those of 16 bits with each channel apart.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from linfusion_cli.images.errors import DECODER_ERRORS

SEPARATE = 2
CHANNELS = {0: (1,), 1: (1,), 2: (3, 4)}  # of Photometric: grey with a white 0, grey with a black 0, RGB
ORIENTATION, ICC_PROFILE, EXTRA_SAMPLES = 274, 34675, 338
ASSOCIATED_ALPHA = 1
DTYPES = ("float16", "float32", "float64", "uint32", "int32")
DTYPES_APART = (*DTYPES, "uint16")  # with each channel apart


@dataclass(slots=True, kw_only=True)
class DeepTiff:
    """The first image of a file, with the attributes of Pillow's images that this package asks for.

    dtype: one of DTYPES_APART
    channels: 1, 3 or 4
    inverted: 0 is white
    alpha: what the fourth channel is, "" if there is none
    orientation: of TIFF, 1 to 8
    numbers: (height, width, channels) once it is loaded
    """

    path: Path
    width: int
    height: int
    dtype: str
    channels: int
    inverted: bool
    alpha: Literal["", "straight", "associated"]
    orientation: int
    n_frames: int
    info: dict[str, Any]
    numbers: Any = None
    format: str = "TIFF"
    tile: tuple[()] = field(default=())

    @property
    def mode(self) -> str:
        return {1: "F", 3: "RGB", 4: "RGBA"}[self.channels]

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height

    def load(self) -> None:
        """Decodes all numbers. Raises one of DECODER_ERRORS for a file that is damaged or cut short."""
        if self.numbers is not None:
            return
        with _first_page(self.path) as (page, _):
            data = page.asarray(maxworkers=1)
            if data.ndim == 3 and page.planarconfig == SEPARATE:
                data = data.transpose(1, 2, 0)
            self.numbers = data.reshape(self.height, self.width, self.channels)

    def getexif(self) -> dict[int, Any]:
        """No EXIF data: of TIFF's own tags, those that count are attributes here."""
        return {}


def open_deep_tiff(path: Path) -> DeepTiff | None:
    """The image of a file that tifffile knows as one of those; None for all others, and without tifffile."""
    if importlib.util.find_spec("tifffile") is None:
        return None
    try:
        with _first_page(path) as (page, count):
            channels, dtype = page.samplesperpixel, str(page.dtype)
            allowed = DTYPES_APART if page.planarconfig == SEPARATE and channels > 1 else DTYPES
            if channels not in CHANNELS.get(page.photometric, ()) or dtype not in allowed or page.imagedepth != 1:
                return None
            _check_segments(page, path.stat().st_size)
            profile = page.tags.valueof(ICC_PROFILE)
            return DeepTiff(
                path=path, width=page.imagewidth, height=page.imagelength, dtype=dtype, channels=channels,
                inverted=page.photometric == 0,
                alpha=_alpha(page) if channels == 4 else "",
                orientation=int(page.tags.valueof(ORIENTATION, 1)), n_frames=count,
                info={"icc_profile": bytes(profile)} if profile else {},
            )  # fmt: skip
    except DECODER_ERRORS:
        return None


def _alpha(page: Any) -> Literal["straight", "associated"]:
    return "associated" if tuple(page.extrasamples) == (ASSOCIATED_ALPHA,) else "straight"


def _check_segments(page: Any, file_bytes: int) -> None:
    """Raises ValueError where a strip or tile is missing: tifffile reads it as zeros."""
    ends = [at + length for at, length in zip(page.dataoffsets, page.databytecounts, strict=True) if at and length]
    if len(ends) < len(page.dataoffsets) or not ends or max(ends) > file_bytes:
        raise ValueError("a part of its data is missing")


@contextmanager
def _first_page(path: Path) -> Iterator[tuple[Any, int]]:
    """A file's first page and how many there are; what tifffile logs about odd tags is not shown."""
    tifffile, logger = importlib.import_module("tifffile"), logging.getLogger("tifffile")
    level = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        with tifffile.TiffFile(path) as file:
            yield file.pages[0], len(file.pages)
    finally:
        logger.setLevel(level)
