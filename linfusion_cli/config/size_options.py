"""One size of what was given: width and height, or a shape with an area, a longer side or one side."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import NoReturn

from linfusion_cli.config.request_checks import checked_number
from linfusion_cli.errors import UsageError, option
from linfusion_cli.geometry import LARGEST_SIDE_PX, MULTIPLE_PX, Size, multiple_of

BOTH_SIDES = ("width", "height")
MEASURES = (*BOTH_SIDES, "megapixels", "long_side")
SIZE_KEYS = ("aspect", *MEASURES)
_ASPECT = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)(?:\s*[:/x×]\s*(\d{1,9}(?:\.\d{1,9})?))?\s*")


def size_of(given: Mapping[str, object], usual: Callable[[], Size], *, keep_shape: bool = False) -> Size:
    """The size that options ask for, in pixels, its sides in multiples of 8.

    given: the options that somebody gave, of SIZE_KEYS and "size"; not only "size". usual: the size where nothing is
    given, whose shape, area or other side is used. keep_shape: one side alone keeps that shape; else the other side
    stays the usual one.
    Raises UsageError for options that contradict each other, and for sides below 8 pixels or beyond the largest.
    """
    measures = [key for key in MEASURES if key in given]
    _refuse_contradiction(given, measures)
    for key in measures:
        checked_number(key, _number(given[key]))
    if tuple(measures) == BOTH_SIDES:
        return Size(int(_number(given["width"])), int(_number(given["height"])))
    ratio = aspect_ratio(str(given["aspect"])) if "aspect" in given else usual().width / usual().height
    if not measures:
        return _checked(given, ratio, usual().area)
    key, value = measures[0], _number(given[measures[0]])
    if key == "megapixels":
        return _checked(given, ratio, value * 1e6)
    if key == "long_side":
        return _checked(given, ratio, value * value / max(ratio, 1 / ratio))
    if "aspect" in given or keep_shape:
        return _checked(given, ratio, value * value / ratio if key == "width" else value * value * ratio)
    return Size(int(value), usual().height) if key == "width" else Size(usual().width, int(value))


def aspect_ratio(text: str) -> float:
    """Width over height of "16:9", "16/9", "16x9" or "1.78". Raises UsageError for anything else."""
    match = _ASPECT.fullmatch(text)
    width, height = (float(match[1]), float(match[2] or 1)) if match else (0.0, 0.0)
    if not width or not height:
        raise UsageError(f'"{text}": write W:H, for example 16:9, 3:2, 1:1 or 9:16', parameter="aspect")
    return width / height


def _number(value: object) -> float:
    return value if isinstance(value, int | float) else float(str(value))


def _refuse_contradiction(given: Mapping[str, object], measures: list[str]) -> None:
    others = [key for key in SIZE_KEYS if key in given]
    if "size" in given:
        _refuse("size", others[0])
    if len(measures) > 1 and tuple(measures) != BOTH_SIDES:
        _refuse(measures[0], measures[-1])
    if "aspect" in given and tuple(measures) == BOTH_SIDES:
        raise UsageError(
            option("width"), " and ", option("height"), " say the shape already: leave one out, or ", option("aspect")
        )


def _refuse(one: str, other: str) -> NoReturn:
    raise UsageError(option(one), " and ", option(other), " both say how large the image is: give one of them")


def _checked(given: Mapping[str, object], ratio: float, area_px: float) -> Size:
    """The size of a shape and an area. Raises UsageError where a side can't be made."""
    width = math.sqrt(area_px * ratio)
    size = Size(multiple_of(width), multiple_of(width / ratio))
    if min(size.width, size.height) < MULTIPLE_PX or max(size.width, size.height) > LARGEST_SIDE_PX:
        said = " with ".join(f"{key.replace('_', ' ')} {given[key]}" for key in SIZE_KEYS if key in given)
        raise UsageError(
            f"{said} is {width:.0f}x{width / ratio:.0f} pixels: sides are from {MULTIPLE_PX} to {LARGEST_SIDE_PX}. "
            "Give ",
            option("size"),
            " with a size between",
        )
    return size
