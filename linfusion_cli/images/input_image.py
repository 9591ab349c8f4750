"""An image that a user brings, as a plan knows it, and its pixels. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.errors import Message, UsageError, option
from linfusion_cli.geometry import Size
from linfusion_cli.images.decode import read
from linfusion_cli.images.decoding_memory import reading_bytes
from linfusion_cli.images.deep_samples import Range, RangeError
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """An image on disk: its hash, its size in pixels as seen (after its EXIF orientation), what is done to it.

    number_bytes: of each of a pixel's three numbers once it is read
    format_name: Pillow's
    value_range: the numbers of black and white in a file of more than 8 bits per channel; None: as its format says
    drawn_by: the locations of the model that drew it from words alone, by its record; () if none says so
    """

    path: Path
    sha256: str
    size: Size
    number_bytes: int
    notes: tuple[Message, ...]
    format_name: str = "PNG"
    value_range: Range | None = None
    drawn_by: tuple[str, ...] = ()

    @property
    def held_bytes(self) -> int:
        """What its pixels take in memory."""
        return 3 * self.number_bytes * self.size.area

    @property
    def reading_bytes(self) -> int:
        """What reading it takes, its pixels among it."""
        return reading_bytes(self.format_name, self.number_bytes, self.size)


def read_pixels(image: InputImage, parameter: str) -> Any:
    """The image as numpy (height, width, 3), upright, in sRGB, transparency laid on white.

    Its numbers are uint8, uint16 for files of 16 bits per channel, or float32 in [0, 1] for other ones of more than 8.
    Raises UsageError if the file is damaged or has changed since the job was made.
    """
    with naming(image.path, parameter):
        try:
            pixels = read(image.path, image.value_range)
        except (SyntaxError, ValueError, EOFError) as error:
            raise ImageError(f"is damaged ({str(error)[:80]})") from error
        with image.path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != image.sha256:
                raise ImageError("changed since the job was made. Start again")
    return pixels


@contextmanager
def naming(path: Path, parameter: str) -> Iterator[None]:
    """Turns what is wrong with a file into a UsageError that names the option and the file."""
    try:
        yield
    except RangeError as error:
        raise UsageError(f"{path} {error}", option("input_range", error.range_text), parameter=parameter) from error
    except ImageError as error:
        raise UsageError(f"{path} {error}", parameter=parameter) from error
    except FileNotFoundError as error:
        raise UsageError(f"{path}: there is no such file", parameter=parameter) from error
    except DECODER_ERRORS as error:
        if isinstance(error, RecursionError):
            raise
        reason = getattr(error, "strerror", None) or str(error)[:80]
        raise UsageError(f"{path}: can't be read ({reason})", parameter=parameter) from error
