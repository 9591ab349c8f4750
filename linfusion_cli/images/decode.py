"""Decodes image files into pixels: upright, in sRGB, transparency laid on white, strip by strip."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from linfusion_cli.geometry import Band, bands
from linfusion_cli.images.colour import Conversion, colours_of
from linfusion_cli.images.deep_samples import STRIP_ROWS, Range, deep_strips, keeps_16_bits
from linfusion_cli.images.opening import has_alpha, opened, orientation_of
from linfusion_cli.images.samples import Samples, samples_of


def read(path: Path, value_range: Range | None = None) -> Any:
    """The pixels of an image file as numpy (height, width, 3): uint8, uint16, or float32 in [0, 1].

    value_range: the numbers of black and white, for samples of more than 8 bits. Raises ImageError, and what Pillow
    raises for a damaged file.
    """
    import numpy as np

    with opened(path) as image:
        samples, orientation = samples_of(image), orientation_of(image, path)
        conversion = colours_of(image, path).conversion
        kind: Any
        if samples.number == "level" or reads_upper_bits(samples, conversion):
            image.load()
            kind, strips = np.uint8, _levels(image, conversion)
        else:
            kind = np.uint16 if keeps_16_bits(samples, value_range) else np.float32
            strips = deep_strips(image, path, samples, conversion, value_range)
        pixels = np.empty((image.height, image.width, 3), dtype=kind)
        for strip, rows in strips:
            pixels[strip.rows] = rows
    return _upright(pixels, orientation)


def reads_upper_bits(samples: Samples, conversion: Conversion | None) -> bool:
    """Whether colours of 16 bits are read as 8: their profile is a table, and LittleCMS converts no more by Pillow."""
    return bool(samples.raw_modes) and conversion is not None and conversion.exact is None


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
