"""Images that have all kinds of content: gradients, noise and an edge, and the texts of a record."""

from collections.abc import Iterator

import numpy as np

from linfusion_cli.file_formats import BY_NAME, FileSettings, file_settings
from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.strips import Rows

RECORD = '{"prompt": "a <b> & \\"c\\"", "preset": "landscape", "seed": 7, "width": 8, "height": 8}'
TEXTS = {"linfusion": RECORD, "parameters": 'a <b> & "c" 山\nNegative prompt: é\nSteps: 3, Seed: 7, Size: 8x8'}


def image_of(size: Size, bits: int = 8) -> Rows:
    """A smooth image with some noise and a hard edge."""
    y, x = np.mgrid[: size.height, : size.width].astype(np.float64)
    smooth = np.stack([np.sin(x / 40), np.cos(y / 30), np.sin((x + y) / 50)], axis=-1) * 0.4 + 0.5
    smooth += np.random.default_rng(5).normal(0, 0.005, smooth.shape)
    smooth[: size.height // 3, : size.width // 3] *= 0.5
    largest = (1 << bits) - 1
    return (smooth.clip(0, 1) * largest).round().astype(np.uint16 if bits == 16 else np.uint8)


def in_pieces(image: Rows, heights: tuple[int, ...] = (7, 64, 1, 100)) -> Iterator[Rows]:
    """The image's rows in pieces of these heights, over and over."""
    top = 0
    while top < len(image):
        for height in heights:
            if top < len(image):
                yield image[top : top + height]
            top += height


def settings_of(name: str, size: Size, **given: object) -> FileSettings:
    return file_settings(BY_NAME[name], given, size)
