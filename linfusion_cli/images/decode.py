"""Decodes image files into pixels: upright, in sRGB, transparency laid on white, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from linfusion_cli.geometry import Band, bands
from linfusion_cli.images.colour import Conversion, colours_of
from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.opening import has_alpha, opened, orientation_of
from linfusion_cli.images.samples import Samples, samples_of

STRIP_ROWS = 64  # that are converted at a time: Pillow's conversions make copies
Range = tuple[float, float]


def read(path: Path, value_range: Range | None = None) -> Any:
    """The pixels of an image file as numpy (height, width, 3): uint8, uint16, or float32 in [0, 1].

    value_range: the numbers of black and white, for samples of more than 8 bits. Raises ImageError, and what Pillow
    raises for a damaged file.
    """
    with opened(path) as image:
        samples, orientation = samples_of(image), orientation_of(image, path)
        conversion = colours_of(image).conversion
        if reads_upper_bits(samples, conversion):
            samples = replace(samples, number="level", number_bytes=1)
        if samples.raw_modes and samples.number != "level":
            pixels = _scaled(_two_bytes(image, path, samples), samples, value_range)
            return _upright(pixels, orientation)
        image.load()
        strips = _levels(image, conversion) if samples.number == "level" else _deep(image, samples, value_range)
        pixels = _empty(image, samples, conversion, value_range)
        for strip, rows in strips:
            pixels[strip.rows] = rows
    return _upright(pixels, orientation)


def reads_upper_bits(samples: Samples, conversion: Conversion | None) -> bool:
    """Whether colours of 16 bits are read as 8, because LittleCMS converts no more through Pillow."""
    return bool(samples.raw_modes) and conversion is not None


def _empty(image: Any, samples: Samples, conversion: Conversion | None, value_range: Range | None) -> Any:
    import numpy as np

    kept = samples.number_bytes == 2 and not value_range and conversion is None
    kind = np.uint8 if samples.number == "level" else np.uint16 if kept else np.float32
    return np.empty((image.height, image.width, 3), dtype=kind)


def _upright(pixels: Any, orientation: int) -> Any:
    """The pixels turned and mirrored by an EXIF orientation, in one copy where they are turned."""
    import numpy as np

    if orientation == 1:
        return pixels
    turned = pixels.swapaxes(0, 1) if orientation >= 5 else pixels
    if orientation in (3, 4, 7, 8):
        turned = turned[::-1]
    if orientation in (2, 3, 6, 7):
        turned = turned[:, ::-1]
    return np.ascontiguousarray(turned)


def _levels(image: Any, conversion: Conversion | None) -> Iterator[tuple[Band, Any]]:
    """Strips of 8-bit levels of red, green and blue."""
    for strip in bands(image.height, STRIP_ROWS):
        part = image.crop((0, strip.top, image.width, strip.bottom))
        yield strip, levels_of(part, conversion)


def levels_of(strip: Any, conversion: Conversion | None) -> Any:
    """A Pillow image of 8 bits a channel as numpy (height, width, 3): in sRGB, transparency laid on white."""
    import numpy as np

    return np.asarray(_converted(strip, conversion) if conversion else _on_white(strip))


def _on_white(strip: Any) -> Any:
    from PIL import Image

    strip = strip.convert("LA") if strip.mode == "La" else strip
    if has_alpha(strip):
        strip = Image.alpha_composite(Image.new("RGBA", strip.size, (255, 255, 255, 255)), strip.convert("RGBA"))
    return strip.convert("RGB")


def _converted(strip: Any, conversion: Conversion) -> Any:
    """The strip in sRGB; its transparency is laid on white afterwards."""
    strip = strip.convert("LA") if strip.mode == "La" else strip
    alpha = strip.convert("RGBA").getchannel("A") if has_alpha(strip) else None
    if alpha is not None:
        strip = strip.convert("RGBA")
        strip = strip.getchannel("R") if conversion.mode == "L" else strip.convert("RGB")
    colours = conversion.apply(strip if strip.mode == conversion.mode else strip.convert(conversion.mode))
    if alpha is not None:
        colours.putalpha(alpha)
    return _on_white(colours)


def _deep(image: Any, samples: Samples, value_range: Range | None) -> Iterator[tuple[Band, Any]]:
    """Strips of grey of more than 8 bits, in three equal channels."""
    import numpy as np

    curve = _grey_curve(image)
    for strip, numbers in numbers_of(image, samples):
        rows = _scaled(numbers, samples, value_range)
        if samples.inverted:
            rows = 65535 - rows if rows.dtype == np.uint16 else 1 - rows
        if curve is not None:
            rows = curve(rows if rows.dtype == np.float32 else rows / np.float32(65535))
        if samples.alpha == "key":
            rows = np.where(numbers == image.info["transparency"], rows.dtype.type(_white(rows)), rows)
        yield strip, np.repeat(rows[:, :, None], 3, axis=2)


def numbers_of(image: Any, samples: Samples) -> Iterator[tuple[Band, Any]]:
    """Strips of a decoded grey image's own numbers."""
    import numpy as np

    for strip in bands(image.height, STRIP_ROWS):
        numbers = np.asarray(image.crop((0, strip.top, image.width, strip.bottom)))
        numbers = numbers.byteswap() if samples.swapped else numbers
        yield strip, numbers.view(np.uint32) if numbers.dtype == np.int32 and not samples.signed else numbers


def _white(rows: Any) -> float:
    return 65535 if rows.dtype == "uint16" else 1


def _grey_curve(image: Any) -> Any:
    """What a grey profile makes of numbers in [0, 1], from the 256 levels that LittleCMS converts; None for nothing."""
    import numpy as np
    from PIL import Image

    conversion = colours_of(image).conversion
    if conversion is None:
        return None
    levels = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    after = np.asarray(conversion.apply(levels.convert(conversion.mode)))[0, :, 1] / 255
    return lambda rows: np.interp(rows, np.arange(256) / 255, after).astype(np.float32)


def _scaled(numbers: Any, samples: Samples, value_range: Range | None) -> Any:
    """Numbers in [0, 1]; those of 16 bits stay as they are unless a range is given."""
    import numpy as np

    if value_range is None and samples.white == 65535 and numbers.dtype.kind == "u" and numbers.dtype.itemsize == 2:
        return numbers.astype(np.uint16, copy=False)
    low, high = value_range or (0.0, samples.white)
    scaled = (numbers.astype(np.float64) - low) / (high - low) if value_range else numbers / np.float32(high)
    return scaled.clip(0, 1).astype(np.float32)


def _two_bytes(image: Any, path: Path, samples: Samples) -> Any:
    """16-bit colours, uint16 (height, width, 3), from one decoding of their upper and one of their lower bytes.

    Pillow's modes hold 8 bits a channel, so its raw modes are told to take the other byte.
    """
    import numpy as np

    if len(samples.raw_modes) == 1:
        return _grey_and_alpha(image, samples)
    height, width = image.height, image.width
    channels = 4 if samples.alpha in ("straight", "associated") else 3
    numbers = np.zeros((height, width, channels), dtype=np.uint16)
    key = image.info.get("transparency")
    for raw_mode, factor in zip(samples.raw_modes, (256, 1), strict=True):
        with opened(path) as half:
            half.tile = [tile._replace(args=_with_raw_mode(tile.args, raw_mode)) for tile in half.tile]
            half.info.pop("transparency", None)
            half.load()
            for strip in bands(height, STRIP_ROWS):
                part = np.asarray(half.crop((0, strip.top, width, strip.bottom)))
                numbers[strip.rows] += part[:, :, :channels] * np.uint16(factor)
    if samples.alpha == "key":
        numbers[(numbers == np.array(key, dtype=np.uint16)).all(axis=2)] = 65535
    return numbers if channels == 3 else _blended(numbers, samples)


def _with_raw_mode(arguments: Any, raw_mode: str) -> Any:
    return (raw_mode, *arguments[1:]) if isinstance(arguments, tuple) else raw_mode


def _grey_and_alpha(image: Any, samples: Samples) -> Any:
    import numpy as np

    image.tile = [tile._replace(args=_with_raw_mode(tile.args, samples.raw_modes[0])) for tile in image.tile]
    image.load()
    numbers = np.empty((image.height, image.width, 4), dtype=np.uint16)
    for strip in bands(image.height, STRIP_ROWS):
        part = np.asarray(image.crop((0, strip.top, image.width, strip.bottom))).astype(np.uint16)
        numbers[strip.rows, :, :3] = (part[:, :, 0] * 256 + part[:, :, 1])[:, :, None]
        numbers[strip.rows, :, 3] = part[:, :, 2] * 256 + part[:, :, 3]
    return _blended(numbers, samples)


def _blended(numbers: Any, samples: Samples) -> Any:
    """Red, green, blue and alpha laid on white."""
    import numpy as np

    pixels = np.empty((*numbers.shape[:2], 3), dtype=np.uint16)
    for strip in bands(len(numbers), STRIP_ROWS):
        part = numbers[strip.rows].astype(np.float32)
        alpha = part[:, :, 3:] / 65535
        colours = part[:, :, :3] * (1 if samples.alpha == "associated" else alpha)
        pixels[strip.rows] = (colours + (1 - alpha) * 65535).clip(0, 65535).round()
    return pixels


def check_range(image: Any, samples: Samples, value_range: Range | None) -> None:
    """Looks at every number of a decoded grey image.

    Raises ImageError for numbers that are not finite, and for those outside of [0, white] where no range is given.
    """
    import numpy as np

    low, high = np.inf, -np.inf
    for _, numbers in numbers_of(image, samples):
        if not np.isfinite(numbers).all():
            raise ImageError("holds numbers that are not finite (NaN or infinity). Replace them first")
        low, high = min(low, float(numbers.min())), max(high, float(numbers.max()))
    if value_range is None and not 0 <= low <= high <= samples.white:
        raise RangeError(low, high if high > low else low + 1, samples.white)


class RangeError(ImageError):
    """The numbers of an image lie outside of what its format means by black and white."""

    def __init__(self, low: float, high: float, white: float) -> None:
        self.range_text = f"{low:g}..{high:g}"
        super().__init__(f"holds numbers from {low:g} to {high:g}; 0 to {white:g} are read without a range. Nearest: ")
