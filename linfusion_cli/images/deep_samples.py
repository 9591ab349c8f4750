"""Samples of more than 8 bits as pixels: scaled, in sRGB, transparency laid on white, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linfusion_cli.geometry import Band, bands
from linfusion_cli.images.colour import Conversion
from linfusion_cli.images.deep_tiff import DeepTiff
from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.opening import opened
from linfusion_cli.images.samples import Samples

STRIP_ROWS = 64  # that are converted at a time: conversions make copies
Range = tuple[float, float]
WHITE_16 = 65535


def keeps_16_bits(samples: Samples, value_range: Range | None) -> bool:
    """Whether pixels are uint16; else they are float32 in [0, 1]."""
    return samples.number_bytes == 2 and value_range is None


def deep_strips(
    image: Any, path: Path, samples: Samples, conversion: Conversion | None, value_range: Range | None
) -> Iterator[tuple[Band, Any]]:
    """Strips of pixels, uint16 or float32 in [0, 1], (rows, width, 3), of an image opened from `path`."""
    import numpy as np

    key = image.info.get("transparency") if samples.alpha == "key" else None
    plain = keeps_16_bits(samples, value_range) and conversion is None and samples.alpha in ("", "key")
    for strip, numbers in numbers_of(image, path, samples):
        if plain:
            rows = numbers.astype(np.uint16, copy=False)
            rows = WHITE_16 - rows if samples.inverted else rows
        else:
            unit = _shown(numbers, samples, conversion, value_range)
            kept = keeps_16_bits(samples, value_range)
            rows = (unit * WHITE_16).round().astype(np.uint16) if kept else unit.astype(np.float32)
        if rows.shape[2] == 1:
            rows = np.repeat(rows, 3, axis=2)
        if key is not None:
            rows = np.where((numbers == key).all(axis=2)[:, :, None], rows.dtype.type(WHITE_16 if plain else 1), rows)
        yield strip, rows


def _shown(numbers: Any, samples: Samples, conversion: Conversion | None, value_range: Range | None) -> Any:
    """Numbers as colours of sRGB in [0, 1], on white."""
    has_alpha = samples.alpha in ("straight", "associated")
    low, high = value_range or (0.0, samples.white)
    unit = (numbers[:, :, :-1] if has_alpha else numbers).astype("float64")
    unit = (unit - low) / (high - low)
    unit = 1 - unit if samples.inverted else unit
    if not has_alpha:
        return _converted(unit.clip(0, 1), conversion)
    alpha = (numbers[:, :, -1:] / samples.white).clip(0, 1)
    if samples.alpha == "associated":  # colours are multiplied by alpha, which a conversion must not see
        unit = unit / alpha.clip(1 / WHITE_16, None)
    return _converted(unit.clip(0, 1), conversion) * alpha + (1 - alpha)


def _converted(unit: Any, conversion: Conversion | None) -> Any:
    """Colours in [0, 1] in sRGB: exactly where that is known, else by the 8 bits of LittleCMS."""
    import numpy as np
    from PIL import Image

    if conversion is None:
        return unit
    if conversion.exact:
        return conversion.exact.apply(unit)
    if unit.shape[2] == 1:  # between its 256 levels, numbers are interpolated
        levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
        after = np.asarray(conversion.apply(levels.convert(conversion.mode)))[0, :, 1] / 255
        return np.interp(unit, np.arange(256) / 255, after)
    return np.asarray(conversion.apply(Image.fromarray((unit * 255).round().astype(np.uint8)))) / 255


def numbers_of(image: Any, path: Path, samples: Samples) -> Iterator[tuple[Band, Any]]:
    """Strips of an image's own numbers, (rows, width, channels)."""
    if isinstance(image, DeepTiff):
        image.load()
        numbers = image.numbers
    elif len(samples.raw_modes) == 2:
        numbers = _two_bytes(image, path, samples)
    elif samples.raw_modes:
        numbers = _grey_and_alpha(image, samples)
    else:
        image.load()
        yield from _of_grey(image, samples)
        return
    for strip in bands(image.height, STRIP_ROWS):
        yield strip, numbers[strip.rows]


def _of_grey(image: Any, samples: Samples) -> Iterator[tuple[Band, Any]]:
    import numpy as np

    for strip in bands(image.height, STRIP_ROWS):
        numbers = np.asarray(image.crop((0, strip.top, image.width, strip.bottom)))
        numbers = numbers.byteswap() if samples.swapped else numbers
        numbers = numbers.view(np.uint32) if numbers.dtype == np.int32 and not samples.signed else numbers
        yield strip, numbers[:, :, None]


def _two_bytes(image: Any, path: Path, samples: Samples) -> Any:
    """16-bit colours, uint16 (height, width, 3 or 4), from one decoding of their upper and one of their lower bytes.

    Pillow's modes hold 8 bits a channel, so its raw modes are told to take the other byte.
    """
    import numpy as np

    height, width = image.height, image.width
    channels = 4 if samples.alpha in ("straight", "associated") else 3
    numbers = np.zeros((height, width, channels), dtype=np.uint16)
    for raw_mode, factor in zip(samples.raw_modes, (256, 1), strict=True):
        with opened(path) as half:
            half.tile = [tile._replace(args=_with_raw_mode(tile.args, raw_mode)) for tile in half.tile]
            half.info.pop("transparency", None)
            half.load()
            for strip in bands(height, STRIP_ROWS):
                part = np.asarray(half.crop((0, strip.top, width, strip.bottom)))
                numbers[strip.rows] += part[:, :, :channels] * np.uint16(factor)
    return numbers


def _with_raw_mode(arguments: Any, raw_mode: str) -> Any:
    return (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode


def _grey_and_alpha(image: Any, samples: Samples) -> Any:
    """Grey and its alpha, uint16 (height, width, 2): Pillow is told that the four bytes are four channels."""
    import numpy as np

    image.tile = [tile._replace(args=_with_raw_mode(tile.args, samples.raw_modes[0])) for tile in image.tile]
    image.load()
    numbers = np.empty((image.height, image.width, 2), dtype=np.uint16)
    for strip in bands(image.height, STRIP_ROWS):
        part = np.asarray(image.crop((0, strip.top, image.width, strip.bottom))).astype(np.uint16)
        numbers[strip.rows] = part[:, :, ::2] * np.uint16(256) + part[:, :, 1::2]
    return numbers


def check_range(image: Any, path: Path, samples: Samples, value_range: Range | None) -> None:
    """Looks at every number of an image, its alpha left out.

    Raises ImageError for numbers that are not finite, and for those outside of [0, white] where no range is given.
    """
    import numpy as np

    low, high = np.inf, -np.inf
    for _, numbers in numbers_of(image, path, samples):
        if not np.isfinite(numbers).all():
            raise ImageError("holds numbers that are not finite (NaN or infinity). Replace them first")
        colours = numbers[:, :, :-1] if samples.alpha in ("straight", "associated") else numbers
        low, high = min(low, float(colours.min())), max(high, float(colours.max()))
    if value_range is None and not 0 <= low <= high <= samples.white:
        raise RangeError(low, high if high > low else low + 1, samples.white)


class RangeError(ImageError):
    """The numbers of an image lie outside of what its format means by black and white."""

    def __init__(self, low: float, high: float, white: float) -> None:
        self.range_text = f"{low:g}..{high:g}"
        super().__init__(f"holds numbers from {low:g} to {high:g}; 0 to {white:g} are read without a range. Nearest: ")
