"""Small PNGs of PngWriter, and where a test saves them."""

import io
from pathlib import Path

import numpy as np

from linfusion_cli.geometry import Size
from linfusion_cli.output.png_writer import AnyPixels, Pixels, PngOptions, PngWriter


def image(width: int, height: int, seed: int = 0) -> Pixels:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    noise[::2, : width // 2] = 7  # something to compress as well
    return noise


def encode(
    pixels: AnyPixels,
    arrival: int = 1 << 30,
    texts: dict[str, str] | None = None,
    threads: int | None = None,
    bits: int = 8,
) -> bytes:
    sink = io.BytesIO()
    with PngWriter(sink, Size(pixels.shape[1], pixels.shape[0]), texts, threads, PngOptions(bits)) as writer:
        for top in range(0, len(pixels), arrival):
            writer.write_rows(pixels[top : top + arrival])
    return sink.getvalue()


def saved(folder: Path, data: bytes) -> Path:
    path = folder / "a.png"
    path.write_bytes(data)
    return path
