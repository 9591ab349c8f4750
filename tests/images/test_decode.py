from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.images.decode import read
from linfusion_cli.images.icc import ADOBE, matrix_profile


@pytest.mark.parametrize("kind", ["tif", "jpg", "png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_of_every_format(tmp_path: Path, kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    smooth = np.stack([*np.meshgrid(np.arange(96), np.arange(144), indexing="ij"), np.zeros((96, 144), int)], -1)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / f"a.{kind}", exif=exif)
    found, wanted = read(tmp_path / f"a.{kind}"), upright(smooth, orientation)
    assert found.shape == wanted.shape
    assert np.abs(found.astype(int) - wanted).max() <= (6 if kind == "jpg" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["uint8", "<u2", ">u2", "uint32", "float32"])
@pytest.mark.parametrize("tile", [None, (32, 32)])
def test_grey_tiff_images_are_turned(tmp_path: Path, kind: str, orientation: int, tile: tuple[int, int] | None) -> None:
    tifffile = pytest.importorskip("tifffile")
    grey = np.add.outer(np.arange(80), 2 * np.arange(50))
    white = {"uint8": 255, "float32": 1}.get(kind, 65535)
    numbers = (grey / 255).astype(kind) if kind == "float32" else (grey * (white // 255)).astype(kind)
    path, tags = tmp_path / "a.tif", [(274, "H", 1, orientation, True)]
    order = ">" if kind == ">u2" else "<"
    tifffile.imwrite(path, numbers, photometric="minisblack", byteorder=order, tile=tile, extratags=tags)
    found, wanted = read(path), upright(grey / 255, orientation)
    assert found.shape[:2] == wanted.shape
    scale = 1 if found.dtype == np.float32 else np.iinfo(found.dtype).max
    assert np.abs(found[:, :, 1] / scale - wanted).max() < 1e-6


def upright(a: np.ndarray, orientation: int) -> np.ndarray:
    """What an image with an EXIF orientation looks like."""
    turned = a[::-1, ::-1].swapaxes(0, 1)
    every = [a, a[:, ::-1], a[::-1, ::-1], a[::-1], a.swapaxes(0, 1), np.rot90(a, -1), turned, np.rot90(a)]
    return every[orientation - 1]


def test_transparency_is_laid_on_white_after_the_colours_are_converted(tmp_path: Path) -> None:
    rgba = np.full((80, 8, 4), 100, np.uint8)
    rgba[40:, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=matrix_profile(ADOBE, 563 / 256))
    assert (read(tmp_path / "a.png")[40:] == 255).all()
