"""PNGs of every kind in bands: the pixels that Pillow reads at once, in bounded memory."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from linfusion_cli.images.errors import ImageError
from linfusion_cli.png_chunks import SIGNATURE
from linfusion_cli.viewer import png_rows
from linfusion_cli.viewer.png_rows import CHANNELS, is_interlaced, png_bands


def stacked(path: Path) -> np.ndarray[Any, Any]:
    """All bands in RGBA."""
    return np.concatenate([np.asarray(band.convert("RGBA")) for band in png_bands(path)])


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, bits: int, colour: int, seed: int, *extra: bytes) -> bytes:
    """A PNG of random bytes behind random filters: every byte is a valid filtered row."""
    rng = np.random.default_rng(seed)
    row_bytes = -(-width * CHANNELS[colour] * bits // 8)
    rows = rng.integers(0, 256, (height, row_bytes + 1), dtype=np.uint8)
    rows[:, 0] = rng.integers(0, 5, height)
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 1)
    half = len(data) // 2
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", data[:half]), chunk(b"IDAT", data[half:])]
    return SIGNATURE + b"".join([*parts, chunk(b"IEND", b"")])


KINDS = [(0, 1), (0, 2), (0, 4), (0, 8), (2, 8), (3, 1), (3, 2), (3, 4), (3, 8), (4, 8), (6, 8)]


@pytest.mark.slow
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kind=st.sampled_from(KINDS),
    width=st.integers(1, 40),
    height=st.integers(1, 30),
    rows=st.integers(1, 9),
    seed=st.integers(0, 999),
)
def test_bands_of_every_kind_are_what_pillow_reads_at_once(
    tmp_path: Path, kind: tuple[int, int], width: int, height: int, rows: int, seed: int
) -> None:
    colour, bits = kind
    palette = chunk(b"PLTE", np.random.default_rng(0).integers(0, 256, 3 << bits, dtype=np.uint8).tobytes())
    extra = (palette, chunk(b"tRNS", bytes([0, 90]))) if colour == 3 else ()
    data = raw_png(width, height, bits, colour, seed, *extra)
    path = tmp_path / "x.png"
    path.write_bytes(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(png_rows, "BAND_BYTES", rows * -(-width * CHANNELS[colour] * bits // 8))
        found = stacked(path)
    assert np.array_equal(found, np.asarray(Image.open(io.BytesIO(data)).convert("RGBA")))


@pytest.mark.parametrize("colour", [0, 2, 4, 6])
def test_of_16_bits_the_upper_ones_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colour: int) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(raw_png(21, 17, 16, colour, 4))
    monkeypatch.setattr(png_rows, "BAND_BYTES", 21 * CHANNELS[colour] * 2 * 3)
    found = np.concatenate([np.asarray(band) for band in png_bands(path)])
    image = Image.open(path)
    expected = np.asarray(image) >> 8 if colour == 0 else np.asarray(image)
    if colour == 4:  # Pillow's RGBA of grey and alpha
        expected = np.asarray(image.convert("LA"))
    assert np.array_equal(found.reshape(expected.shape), expected)


@pytest.mark.parametrize("damage", ["cut", "flip", "short"])
def test_what_is_damaged_is_told(tmp_path: Path, damage: str) -> None:
    data = bytearray(raw_png(40, 30, 8, 2, 1))
    if damage == "cut":
        del data[len(data) // 2 :]
    elif damage == "flip":
        data[len(data) // 2] ^= 0xFF
    else:
        data[20:24] = struct.pack(">I", 31)  # a row more than there are
        data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageError, match=r"damaged|cut short"):
        stacked(tmp_path / "x.png")


def test_interlaced_files_are_known(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(raw_png(8, 8, 8, 2, 1))
    assert not is_interlaced(tmp_path / "x.png")
    data = bytearray(raw_png(8, 8, 8, 2, 1))
    data[28] = 1
    (tmp_path / "y.png").write_bytes(data)
    assert is_interlaced(tmp_path / "y.png")
