"""TIFF images that Pillow does not open."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.images.decode import read
from linfusion_cli.images.deep_tiff import open_deep_tiff

tifffile = pytest.importorskip("tifffile")
FLOATS = np.random.default_rng(2).random((70, 50, 3)).astype(np.float32)


def saved(path: Path, data: np.ndarray = FLOATS, **options: Any) -> Path:
    tifffile.imwrite(path, data, photometric="rgb", metadata=None, **options)
    return path


def test_float_colours_are_read_whole_and_said_to_be_taken_for_srgb(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.tif")
    assert np.array_equal(read(path), FLOATS)
    image = inspect_image(path, "init_image")
    assert (image.size, image.number_bytes) == (Size(50, 70), 4)
    assert any("float numbers are taken for sRGB" in note for note in image.notes)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_its_orientation(tmp_path: Path, orientation: int) -> None:
    path = saved(tmp_path / "a.tif", extratags=[(274, "H", 1, orientation, True)])
    a = FLOATS
    upright = [a, a[:, ::-1], a[::-1, ::-1], a[::-1], a.swapaxes(0, 1), np.rot90(a, -1)]
    upright += [a[::-1, ::-1].swapaxes(0, 1), np.rot90(a)]
    assert np.array_equal(read(path), upright[orientation - 1])
    assert inspect_image(path, "init_image").size.width == upright[orientation - 1].shape[1]


@pytest.mark.parametrize("odd", [np.nan, np.inf, 3.5, -0.5])
def test_numbers_outside_of_the_range_of_any_channel(tmp_path: Path, odd: float) -> None:
    data = FLOATS.copy()
    data[69, 49, 2] = odd
    path = saved(tmp_path / "a.tif", data)
    with pytest.raises(UsageError, match=r"not finite" if not np.isfinite(odd) else r"holds numbers from"):
        inspect_image(path, "init_image")
    if np.isfinite(odd):
        pixels = read(path, (-1.0, 4.0))
        assert np.allclose(pixels, (data + 1) / 5, atol=1e-6)


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_file_that_is_cut_short_is_refused(tmp_path: Path, compression: str | None) -> None:
    path = saved(tmp_path / "a.tif", compression=compression, rowsperstrip=16)
    whole = path.read_bytes()
    for share in (0.99, 0.7, 0.3):
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(UsageError, match=r"damaged|layout that is not read"):
            inspect_image(path, "init_image")


def test_others_are_left_to_pillow(tmp_path: Path) -> None:
    assert open_deep_tiff(saved(tmp_path / "a.tif", (FLOATS * 255).astype(np.uint8))) is None
    (tmp_path / "b.tif").write_bytes(b"II*\0nonsense")
    assert open_deep_tiff(tmp_path / "b.tif") is None


def test_odd_tags_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = saved(tmp_path / "a.tif", extratags=[(700, "H", 1, 1, True)])
    level = logging.getLogger("tifffile").level
    read(path)
    assert not caplog.records
    assert logging.getLogger("tifffile").level == level


def test_without_tifffile_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "a.tif")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "linfusion-cli\[tiff\]"'):
        inspect_image(path, "init_image")


@pytest.mark.parametrize(
    "layout", [{}, {"tile": (32, 32)}, {"compression": "zlib", "predictor": True}, {"byteorder": ">"}]
)
@pytest.mark.parametrize("channels", [3, 4])
def test_16_bits_with_each_channel_apart(tmp_path: Path, layout: dict[str, Any], channels: int) -> None:
    numbers = np.random.default_rng(3).integers(0, 65536, (70, 50, channels), dtype=np.uint16)
    if channels == 4:
        numbers[:, :, 3] = 65535
        layout = {**layout, "extrasamples": ["unassalpha"]}
    apart = saved(tmp_path / "a.tif", numbers.transpose(2, 0, 1), planarconfig="separate", **layout)
    together = saved(tmp_path / "b.tif", numbers, planarconfig="contig", **layout)
    assert inspect_image(apart, "init_image").number_bytes == 2
    pixels = read(apart)
    assert pixels.dtype == np.uint16
    assert np.array_equal(pixels, tifffile.imread(together)[:, :, :3])
    assert np.array_equal(pixels, read(together))
    whole = apart.read_bytes()
    apart.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UsageError, match=r"damaged|PlanarConfiguration"):
        inspect_image(apart, "init_image")
