"""Sizes and bands of rows, in whole numbers."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from linfusion_cli.errors import UsageError, nearest_name, option

MULTIPLE_PX = 8  # the autoencoder's factor: a latent is 8 x 8 pixels
LARGEST_SIDE_PX = 1 << 20
LAST_GROWTH = 2**0.25  # above `factor`, before one more stage is worth its time
NAMED_SIZES = {
    "720p": (1280, 720),
    "1080p": (1920, 1080),
    "1440p": (2560, 1440),
    "2160p": (3840, 2160),
    "hd": (1280, 720),
    "fhd": (1920, 1080),
    "qhd": (2560, 1440),
    "uhd": (3840, 2160),
    "2k": (2560, 1440),  # as monitors are sold; DCI's is 2048x1080
    "4k": (3840, 2160),
    "5k": (5120, 2880),
    "6k": (6144, 3456),
    "8k": (7680, 4320),
    "16k": (15360, 8640),
}
SHAPES = {
    "square": "1:1",
    "portrait": "2:3",
    "landscape": "3:2",
    "wide": "16:9",
    "widescreen": "16:9",
    "ultrawide": "21:9",
}


@dataclass(frozen=True, slots=True, order=True)
class Size:
    """Width and height, in pixels unless a name says latents."""

    width: int
    height: int

    @property
    def area(self) -> int:
        return self.width * self.height

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    def scaled(self, scale: float) -> Size:
        """The nearest size that can be made with sides so many times as long."""
        return nearest_size(Size(round(self.width * scale), round(self.height * scale)))

    def latent(self) -> Size:
        """The size in latents of a size in pixels."""
        return Size(self.width // MULTIPLE_PX, self.height // MULTIPLE_PX)


@dataclass(frozen=True, slots=True)
class Band:
    """Rows top <= row < bottom."""

    top: int
    bottom: int

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def rows(self) -> slice:
        return slice(self.top, self.bottom)


def bands(height: int, band_height: int) -> Iterator[Band]:
    """Splits rows 0..height into bands of band_height; the last may be lower."""
    for top in range(0, height, band_height):
        yield Band(top, min(top + band_height, height))


def parse_size(text: str) -> Size:
    """Reads "WIDTHxHEIGHT" in pixels, "4096" for a square, or a name of NAMED_SIZES in capitals or not.

    Raises UsageError for anything else, for sides below 1 and for sides that are no multiple of 8.
    """
    if named := NAMED_SIZES.get(text.strip().lower()):
        return Size(*named)
    match = re.fullmatch(r"\s*(-?\d{1,400})\s*(?:(?:px)?\s*[xX×*]\s*(-?\d{1,400})\s*)?(?:px)?\s*", text)
    if not match:
        raise _no_size(text)
    size = Size(int(match[1]), int(match[2] or match[1]))
    if min(size.width, size.height) < 1 or max(size.width, size.height) > LARGEST_SIDE_PX:
        raise UsageError(
            f"{size}: sides must be from {MULTIPLE_PX} to {LARGEST_SIDE_PX} pixels. Nearest: {nearest_size(size)}",
            parameter="size",
        )
    if size != nearest_size(size):
        raise UsageError(
            f"{size}: sides must be multiples of {MULTIPLE_PX}. Nearest: {nearest_size(size)}", parameter="size"
        )
    return size


def _no_size(text: str) -> UsageError:
    """What to write instead of a text that is no size."""
    if re.fullmatch(r"\s*\d{1,5}(\.\d+)?\s*[:/]\s*\d{1,5}(\.\d+)?\s*", text):
        return UsageError(f'"{text}": that is a shape; give it as ', option("aspect", text.strip()), parameter="size")
    if shape := SHAPES.get(text.strip().lower()):
        return UsageError(f'"{text}": that is a shape; give it as ', option("aspect", shape), parameter="size")
    close = nearest_name(text.strip().lower(), NAMED_SIZES)
    meant = f' Did you mean "{close}"?' if close else ""
    names = ", ".join(NAMED_SIZES)
    allowed = f"write WIDTHxHEIGHT in pixels (for example 4096x4096), 4096 for a square, or one of {names}."
    return UsageError(f'"{text:.60}": {allowed}{meant}', parameter="size")


def nearest_size(size: Size) -> Size:
    """The closest size that can be rendered."""
    sides = (min(max(MULTIPLE_PX, side), LARGEST_SIDE_PX) for side in (size.width, size.height))
    return Size(*(multiple_of(side) for side in sides))


def multiple_of(value: float, multiple: int = MULTIPLE_PX) -> int:
    """The nearest multiple; halves go up."""
    return int(value / multiple + 0.5) * multiple


def base_size(target: Size, train_area_px: float) -> Size:
    """The size of stage 0: the aspect of the target, about the area of the training, at most the target."""
    scale = min(1.0, (train_area_px / target.area) ** 0.5)
    width = min(max(MULTIPLE_PX, multiple_of(target.width * scale)), target.width)
    return Size(width, min(max(MULTIPLE_PX, multiple_of(target.height * scale)), target.height))


def _first_area_px(target: Size, train_area_px: float, factor: float, given: Size | None) -> float:
    """The area of stage 0: that of the training, or of a given image to upscale.

    It is at least so large that the next stage reaches the area of the training.
    """
    if given is None:
        return train_area_px
    scale = min(given.width / target.width, given.height / target.height)  # what stands over is cut off
    return max(scale**2 * target.area, train_area_px / factor**2)


def stage_sizes(target: Size, train_area_px: float, factor: float = 2.0, given: Size | None = None) -> tuple[Size, ...]:
    """The sizes of all stages in pixels, from the base to the target, in even steps.

    There are as few as possible that grow by no more than `factor` (or a quarter of an octave above it) each. Even
    steps cost least: after doublings, a last step of 1.4 would start from a stage of half the target's area. For a
    target that is a power of two times the base they are doublings (arXiv 2409.02097).
    given: the size of an image to upscale
    """
    base = base_size(target, _first_area_px(target, train_area_px, factor, given))
    ratio = max(target.width / base.width, target.height / base.height)
    steps = 0 if target == base else max(1, math.ceil(math.log(ratio / LAST_GROWTH) / math.log(factor) - 1e-9))
    sizes = [base]
    for step in range(1, steps + 1):
        size = _between(base, target, step / steps)
        if size != sizes[-1]:
            sizes.append(size)
    return tuple(sizes)


def _between(first: Size, last: Size, part: float) -> Size:
    """Part 0 is the first size, 1 the last; equal parts grow by equal factors."""
    pairs = ((first.width, last.width), (first.height, last.height))
    return Size(*(multiple_of(one * (other / one) ** part) for one, other in pairs))
