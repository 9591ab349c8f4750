"""TIFF layouts against tifffile, an independent reader: read as it reads them, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.images.decode import read
from linfusion_cli.images.deep_samples import RangeError, check_range
from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.opening import opened
from linfusion_cli.images.samples import samples_of, unread_channels

tifffile = pytest.importorskip("tifffile")
COMPRESSIONS = [None, "lzw", "zlib"]


def values(kind: str, channels: int) -> np.ndarray:
    shape = (70, 50, channels) if channels > 1 else (70, 50)
    random = np.random.default_rng(3)
    if kind.startswith("float"):
        return random.random(shape).astype(kind)
    return random.integers(0, min(65535, np.iinfo(kind).max), shape, dtype=np.int64, endpoint=True).astype(kind)


def read_or_refused(path: Path) -> Any:
    """The pixels, None for a layout that is refused by name."""
    try:
        return read(path)
    except ImageError as error:
        return None if str(error).startswith("is a") else "refused without a name"


def unit(numbers: np.ndarray) -> np.ndarray:
    white = {"uint8": 255, "float32": 1, "float64": 1, "float16": 1}.get(str(numbers.dtype), 65535)
    return numbers.astype(np.float64) / white


def wanted(data: np.ndarray, photometric: str, alpha: str) -> np.ndarray:
    """What an obvious reader makes of the numbers."""
    found = unit(data)
    if photometric == "miniswhite":
        found = 1 - found
    if found.ndim == 2:
        return np.repeat(found[:, :, None], 3, axis=2)
    if found.shape[2] == 4:
        colours, opaque = found[:, :, :3], found[:, :, 3:]
        return (colours * (1 if alpha == "assocalpha" else opaque) + 1 - opaque).clip(0, 1)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
@pytest.mark.parametrize(
    ("kind", "photometric", "channels", "alpha", "planar"),
    [
        ("uint8", "minisblack", 1, "", "contig"),
        ("uint8", "miniswhite", 1, "", "contig"),
        ("uint8", "rgb", 3, "", "contig"),
        ("uint8", "rgb", 3, "", "separate"),
        ("uint8", "rgb", 4, "unassalpha", "contig"),
        ("uint16", "minisblack", 1, "", "contig"),
        ("uint16", "miniswhite", 1, "", "contig"),
        ("uint16", "rgb", 3, "", "contig"),
        ("uint16", "rgb", 3, "", "separate"),
        ("uint16", "rgb", 4, "unassalpha", "contig"),
        ("uint16", "rgb", 4, "assocalpha", "contig"),
        ("int8", "minisblack", 1, "", "contig"),
        ("uint32", "minisblack", 1, "", "contig"),
        ("int32", "minisblack", 1, "", "contig"),
        ("int16", "minisblack", 1, "", "contig"),
        ("float32", "minisblack", 1, "", "contig"),
        ("float32", "miniswhite", 1, "", "contig"),
        ("float16", "minisblack", 1, "", "contig"),
        ("float64", "minisblack", 1, "", "contig"),
        ("float32", "rgb", 3, "", "contig"),
        ("float32", "rgb", 3, "", "separate"),
        ("float32", "rgb", 4, "unassalpha", "contig"),
        ("float32", "rgb", 4, "assocalpha", "contig"),
        ("float16", "rgb", 3, "", "contig"),
        ("float64", "rgb", 3, "", "contig"),
        ("uint32", "rgb", 3, "", "contig"),
        ("uint8", "rgb", 3, "predictor", "contig"),
    ],
)
def test_layouts_are_read_as_tifffile_reads_them_or_refused(
    tmp_path: Path, kind: str, photometric: str, channels: int, alpha: str, planar: str, tile: Any, order: str,
    compression: str | None,
) -> None:  # fmt: skip
    data, path = values(kind, channels), tmp_path / "a.tif"
    stored = data.transpose(2, 0, 1) if planar == "separate" else data
    options: dict[str, Any] = {"extrasamples": [alpha]} if alpha.endswith("alpha") else {}
    if channels > 1:
        options["planarconfig"] = planar
    options["predictor"] = (alpha == "predictor" and compression is not None) or None
    tifffile.imwrite(
        path, stored, photometric=photometric, byteorder=order, tile=tile, compression=compression,
        rowsperstrip=None if tile else 16, metadata=None, **options,
    )  # fmt: skip
    read_back = tifffile.imread(path)
    read_back = read_back.transpose(1, 2, 0) if planar == "separate" else read_back
    assert np.array_equal(read_back, data)
    found = read_or_refused(path)
    if found is None:
        assert photometric != "rgb" or planar == "separate"
        assert not kind.startswith("float")
        return
    assert np.abs(unit(found) - wanted(data, photometric, alpha)).max() < (0.006 if "alpha" in alpha else 1e-6)


@pytest.mark.parametrize(("numbers", "reason"), [([0, np.nan], "not finite"), ([0, np.inf], "not finite")])
def test_numbers_that_are_not_finite_are_refused(tmp_path: Path, numbers: list[float], reason: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array([numbers], dtype=np.float32))
    with opened(path) as image:
        samples = samples_of(image)
        image.load()
        with pytest.raises(ImageError, match=reason):
            check_range(image, path, samples, None)


@pytest.mark.parametrize(("kind", "white"), [("float32", 255), ("uint32", 1 << 31), ("int32", 70000)])
def test_a_range_outside_is_refused_and_the_one_that_is_offered_is_taken(tmp_path: Path, kind: str, white: int) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array([[0, white // 2, white]], dtype=kind))
    with opened(path) as image:
        samples = samples_of(image)
        image.load()
        with pytest.raises(RangeError) as caught:
            check_range(image, path, samples, None)
        low, high = (float(number) for number in caught.value.range_text.split(".."))
        check_range(image, path, samples, (low, high))
    assert np.allclose(read(path, (low, high))[0, :, 0], [0, 0.5, 1], atol=0.01)


@pytest.mark.parametrize(
    ("channels", "extra", "unread"), [(3, [], 0), (4, [2], 0), (4, [0], 1), (5, [0, 0], 2), (5, [2, 0], 1)]
)
def test_channels_behind_the_colours_are_counted(tmp_path: Path, channels: int, extra: list[int], unread: int) -> None:
    numbers = np.zeros((8, 9, channels), np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", numbers, photometric="rgb", extrasamples=extra)
    with opened(tmp_path / "a.tif") as image:
        assert unread_channels(image) == unread
    notes = inspect_image(tmp_path / "a.tif", "init_image").notes
    assert any(note.endswith(f"are not used: {unread}") for note in notes) == bool(unread)
