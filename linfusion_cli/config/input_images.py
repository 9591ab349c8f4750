"""Looks at an image that a user brings, before any work: its size, its hash, and what of it is not taken as it is."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from linfusion_cli.errors import Message, UsageError, option
from linfusion_cli.geometry import Size
from linfusion_cli.images.colour import Colours, colours_of
from linfusion_cli.images.complete import check_complete
from linfusion_cli.images.decode import reads_upper_bits
from linfusion_cli.images.deep_samples import Range, check_range
from linfusion_cli.images.input_image import InputImage, naming
from linfusion_cli.images.opening import TURNED, has_alpha, opened, orientation_of
from linfusion_cli.images.own_record import drawn_by
from linfusion_cli.images.samples import Samples, samples_of, unread_channels
from linfusion_cli.images.source_file import is_piped, regular_file

FACTS_KEPT = 256  # files whose facts a process remembers
DEEP_NAMED_8BIT = ("AVIF", "HEIF", "JXL")  # may hold more than 8 bits, of which the decoders give the upper 8


@dataclass(frozen=True, slots=True, kw_only=True)
class _Facts:
    """What a file says of its image, whichever option names it."""

    sha256: str
    size: Size
    number_bytes: int
    format_name: str
    notes: tuple[str, ...]
    drawn_by: tuple[str, ...]


def inspect_image(path: Path, parameter: str, value_range: Range | None = None) -> InputImage:
    """Looks at an image, reads all of its data once, so that a damaged file is found before any work, and hashes it.

    A pipe or standard input is copied to a temporary file. Raises UsageError, naming the option `parameter`, for what
    can't be read, other formats, damaged files, images beyond LARGEST_PIXELS, and numbers outside of their range.
    """
    with naming(path, parameter):
        source = regular_file(path)
        status = os.stat(source)
        stamp = (status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino)
        facts = _facts(source, stamp, value_range)
    return InputImage(
        path=source,
        sha256=facts.sha256,
        size=facts.size,
        number_bytes=facts.number_bytes,
        format_name=facts.format_name,
        notes=tuple(Message(option(parameter), f" {source.name}: {note}") for note in facts.notes),
        value_range=value_range,
        drawn_by=facts.drawn_by,
    )


@lru_cache(FACTS_KEPT)
def _facts(path: Path, stamp: tuple[int, ...], value_range: Range | None) -> _Facts:
    """The facts of a file with that stamp."""
    with opened(path) as image:
        samples, format_name = samples_of(image), str(image.format)
        turned = orientation_of(image, path) in TURNED
        size = Size(image.height, image.width) if turned else Size(image.width, image.height)
        colours, drawn = colours_of(image, path), drawn_by(image)
        upper = reads_upper_bits(samples, colours.conversion)
        notes = [*_notes(image, samples, value_range, upper=upper), colours.note]
        notes.append(_precision_note(samples, colours) if not upper else "")
        notes.append(check_complete(image, path))
        if samples.number != "level" and not samples.raw_modes:
            image.load()
            check_range(image, path, samples, value_range)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    number_bytes = 1 if upper else 4 if value_range and samples.number != "level" else samples.number_bytes
    return _Facts(
        sha256=digest,
        size=size,
        number_bytes=number_bytes,
        format_name=format_name,
        notes=tuple(note for note in notes if note),
        drawn_by=drawn,
    )


def _notes(image: Any, samples: Samples, value_range: Range | None, *, upper: bool) -> Iterator[str]:
    """What of an image is not taken as it is."""
    if has_alpha(image) or samples.alpha:
        yield "its transparency is laid on white"
    if getattr(image, "n_frames", 1) > 1:
        yield f"the first of its {image.n_frames} images is taken"
    if unread := unread_channels(image):
        yield f"its channels beyond colours and transparency are not used: {unread}"
    if upper or samples.lost_bits:
        yield "its 16 bits per channel are read as 8" + (
            ", since its profile is more than curves and a matrix" if upper else ""
        )
    if image.format in DEEP_NAMED_8BIT:
        yield "8 bits per channel are read"
    if value_range and (upper or samples.number == "level"):
        yield "has 8 bits per channel as it is read, to which no range is applied"


def _precision_note(samples: Samples, colours: Colours) -> str:
    """How colours of more than 8 bits are converted to sRGB, or what float colours without a profile are taken for."""
    if samples.number == "level":
        return ""
    if colours.conversion:
        return (
            ""
            if colours.conversion.exact
            else "its profile is more than curves and a matrix, and is applied to 8 bits per channel"
        )
    if samples.number == "float" and not colours.note and not colours.is_srgb:
        return "its float numbers are taken for sRGB as they are, with its curve, since no profile says otherwise"
    return ""


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
