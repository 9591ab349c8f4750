"""Reads an image that a user brings: what it is before any work, and its pixels. No torch."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from linfusion_cli.errors import Message, UsageError, option
from linfusion_cli.geometry import Size
from linfusion_cli.images.colour import colours_of
from linfusion_cli.images.complete import check_complete
from linfusion_cli.images.decode import Range, RangeError, check_range, read, reads_upper_bits
from linfusion_cli.images.errors import DECODER_ERRORS, ImageError
from linfusion_cli.images.opening import has_alpha, opened, orientation_of
from linfusion_cli.images.samples import Samples, samples_of
from linfusion_cli.images.source_file import is_piped, regular_file

TURNED = (5, 6, 7, 8)  # orientations that exchange width and height
DECODED_BYTES = 8  # of Pillow's per pixel: four as decoded, four more while it is turned, or a codec's own
FACTS_KEPT = 256  # files whose facts a process remembers
DEEP_NAMED_8BIT = ("AVIF", "HEIF", "JXL")  # may hold more than 8 bits, of which the decoders give the upper 8


@dataclass(frozen=True, slots=True, kw_only=True)
class InputImage:
    """An image on disk: its hash, its size in pixels as seen (after its EXIF orientation), what is done to it.

    number_bytes: of each of a pixel's three numbers once it is read
    value_range: the numbers of black and white in a file of more than 8 bits per channel; None: as its format says
    """

    path: Path
    sha256: str
    size: Size
    number_bytes: int
    notes: tuple[Message, ...]
    value_range: Range | None = None

    @property
    def held_bytes(self) -> int:
        """What its pixels take in memory."""
        return 3 * self.number_bytes * self.size.area

    @property
    def reading_bytes(self) -> int:
        """What reading it takes, its pixels among it."""
        return self.held_bytes + DECODED_BYTES * self.number_bytes * self.size.area


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What a file says of its image, whichever option names it."""

    sha256: str
    size: Size
    number_bytes: int
    notes: tuple[str, ...]


def inspect_image(path: Path, parameter: str, value_range: Range | None = None) -> InputImage:
    """Looks at an image, reads all of its data once, so that a damaged file is found before any work, and hashes it.

    A pipe or standard input is copied to a temporary file. Raises UsageError, naming the option `parameter`, for what
    can't be read, other formats, damaged files, images beyond LARGEST_PIXELS, and numbers outside of their range.
    """
    with _told(path, parameter):
        source = regular_file(path)
        status = os.stat(source)
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        facts = _facts(source, stamp, value_range)
    return InputImage(
        path=source,
        sha256=facts.sha256,
        size=facts.size,
        number_bytes=facts.number_bytes,
        notes=tuple(Message(option(parameter), f" {source.name}: {note}") for note in facts.notes),
        value_range=value_range,
    )


@lru_cache(FACTS_KEPT)
def _facts(path: Path, stamp: tuple[int, ...], value_range: Range | None) -> _Facts:
    """The facts of a file with that stamp."""
    with opened(path) as image:
        samples = samples_of(image)
        turned = orientation_of(image, path) in TURNED
        size = Size(image.height, image.width) if turned else Size(image.width, image.height)
        colours = colours_of(image)
        upper = reads_upper_bits(samples, colours.conversion)
        notes = [*_notes(image, samples, value_range, upper=upper), colours.note]
        notes.append(check_complete(image, path))
        if samples.number != "level" and not samples.raw_modes:
            image.load()
            check_range(image, samples, value_range)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    number_bytes = 1 if upper else 4 if value_range and samples.number != "level" else samples.number_bytes
    number_bytes = 4 if colours.conversion and samples.number != "level" and not upper else number_bytes
    return _Facts(sha256=digest, size=size, number_bytes=number_bytes, notes=tuple(note for note in notes if note))


def _notes(image: Any, samples: Samples, value_range: Range | None, *, upper: bool) -> Iterator[str]:
    """What of an image is not taken as it is."""
    if has_alpha(image) or samples.alpha:
        yield "its transparency is laid on white"
    if getattr(image, "n_frames", 1) > 1:
        yield f"the first of its {image.n_frames} images is taken"
    if upper or samples.lost_bits:
        yield "its 16 bits per channel are read as 8"
    if image.format in DEEP_NAMED_8BIT:
        yield "8 bits per channel are read"
    if value_range and (upper or samples.number == "level"):
        yield "has 8 bits per channel as it is read, to which no range is applied"


def parse_range(text: str) -> Range:
    """Reads "LOW..HIGH". Raises UsageError for anything else, and for a HIGH that is not above LOW."""
    low, dots, high = text.partition("..")
    try:
        numbers = (float(low), float(high))
    except ValueError:
        numbers = (math.nan, math.nan)
    if not dots or not all(math.isfinite(number) for number in numbers):
        raise UsageError(f'"{text}": write two numbers as LOW..HIGH. Nearest: 0..65535', parameter="input_range")
    if numbers[0] >= numbers[1]:
        swapped = (
            f"{numbers[1]:g}..{numbers[0]:g}" if numbers[0] > numbers[1] else f"{numbers[0]:g}..{numbers[0] + 1:g}"
        )
        raise UsageError(f'"{text}": HIGH must be above LOW. Nearest: {swapped}', parameter="input_range")
    return numbers


def refuse_piped(paths: Iterable[Path], parameter: str) -> None:
    """Raises UsageError for standard input and pipes, which only one process can read, and only once."""
    for path in paths:
        if is_piped(path):
            raise UsageError(f"{path}: a batch reads no image from a pipe. Save it to a file", parameter=parameter)


def range_or_none(text: str | None) -> Range | None:
    """The range that a text says; None for none. Raises UsageError as parse_range does."""
    return None if text is None else parse_range(text)


def fitting_note(image: InputImage, parameter: str, size: Size) -> str:
    """How an image of another aspect is fitted, "" if its aspect is the same to one part in a hundred."""
    ratio = image.size.width * size.height / (image.size.height * size.width)
    if abs(ratio - 1) < 0.01:
        return ""
    sides = "left and right" if ratio > 1 else "top and bottom"
    lost = 100 * (1 - min(ratio, 1 / ratio))
    cut = f"cutting off {lost:.0f} % at {sides}"
    return Message(option(parameter), f" {image.path.name}: {image.size} is fitted to the shape of {size} by {cut}")


def read_pixels(image: InputImage, parameter: str) -> Any:
    """The image as numpy (height, width, 3), upright, in sRGB, transparency laid on white.

    Its numbers are uint8, uint16 for files of 16 bits per channel, or float32 in [0, 1] for other ones of more than 8.
    Raises UsageError if the file is damaged or has changed since the job was made.
    """
    with _told(image.path, parameter):
        try:
            pixels = read(image.path, image.value_range)
        except (SyntaxError, ValueError, EOFError) as error:
            raise ImageError(f"is damaged ({str(error)[:80]})") from error
        with image.path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != image.sha256:
                raise ImageError("changed since the job was made. Start again")
    return pixels


@contextmanager
def _told(path: Path, parameter: str) -> Iterator[None]:
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
