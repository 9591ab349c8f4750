"""Thumbnails are the images, smaller; large files are read by rows; what can't be read is refused."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from linfusion_cli.errors import UsageError
from linfusion_cli.file_formats import FileSettings
from linfusion_cli.geometry import Size
from linfusion_cli.images import decoding_memory
from linfusion_cli.output.formats.writer import write_image
from linfusion_cli.viewer import source
from linfusion_cli.viewer.thumbnail import averaged, thumbnail


@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    factor=st.integers(1, 9),
    cut=st.integers(1, 40),
    seed=st.integers(0),
)
def test_the_mean_of_squares_does_not_depend_on_the_pieces(
    height: int, width: int, factor: int, cut: int, seed: int
) -> None:
    pixels = np.random.default_rng(seed % 2**32).integers(0, 256, (height, width, 3)).astype(np.uint8)
    pieces = iter([pixels[top : top + cut] for top in range(0, height, cut)])
    found = np.concatenate(list(averaged(pieces, factor)))
    assert found.shape == (-(-height // factor), -(-width // factor), 3)
    for row in range(found.shape[0]):
        for column in range(found.shape[1]):
            square = pixels[row * factor : (row + 1) * factor, column * factor : (column + 1) * factor]
            assert np.abs(found[row, column] - square.reshape(-1, 3).mean(0)).max() <= 0.5


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("size", [(400, 200), (90, 700), (20, 20)])
def test_it_is_the_image_made_small(ending: str, size: tuple[int, int], tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, size[0])[None, :, None] * np.ones((size[1], 1, 3))
    image = Image.fromarray(ramp.astype(np.uint8))
    image.save(tmp_path / f"x.{ending}", quality=95)
    small = thumbnail(tmp_path / f"x.{ending}", 64)
    image.thumbnail((64, 64), Image.Resampling.LANCZOS)
    assert (small.size, small.mode) == (image.size, "RGB")
    assert np.abs(np.asarray(small, float) - np.asarray(image, float)).mean() < 4


@pytest.mark.slow
def test_a_large_png_is_not_decoded_whole(tmp_path: Path) -> None:
    size = Size(8192, 8192)
    rows = (np.full((64, size.width, 3), 90, np.uint8) for _ in range(128))
    write_image(tmp_path / "x.png", size, FileSettings(), {}, rows, overwrite=False)
    tracemalloc.start()
    try:
        assert thumbnail(tmp_path / "x.png", 128).size == (128, 128)
        assert tracemalloc.get_traced_memory()[1] < size.area * 3 / 2
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_what_is_no_image_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(UsageError, match=r"x\.png"):
        thumbnail(tmp_path / "x.png", 64)


def test_a_format_that_is_decoded_whole_is_told_and_refused_where_memory_is_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.webp"
    Image.new("RGB", (300, 100), (9, 200, 30)).save(path)
    told: list[str] = []
    monkeypatch.setattr(source, "NOTED_BYTES", 1000)
    assert thumbnail(path, 30, told.append).size == (30, 10)
    assert told == [f"{path}: WEBP is decoded whole: 0.0 GB"]
    monkeypatch.setattr(decoding_memory, "ram_bytes", lambda: (1 << 30, 300 * 100 * 20))
    with pytest.raises(UsageError, match=r"x\.webp has 300x100 pixels; WEBP is decoded whole"):
        thumbnail(path, 30)
    Image.new("RGB", (300, 100)).save(tmp_path / "x.png")
    assert thumbnail(tmp_path / "x.png", 30).size == (30, 10)  # by rows
