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
    a = smooth
    upright = [a, a[:, ::-1], a[::-1, ::-1], a[::-1], a.swapaxes(0, 1), np.rot90(a, -1)]
    upright += [a[::-1, ::-1].swapaxes(0, 1), np.rot90(a)]
    found = read(tmp_path / f"a.{kind}")
    assert found.shape == upright[orientation - 1].shape
    assert np.abs(found.astype(int) - upright[orientation - 1]).max() <= (6 if kind == "jpg" else 0)


def test_transparency_is_laid_on_white_after_the_colours_are_converted(tmp_path: Path) -> None:
    rgba = np.full((80, 8, 4), 100, np.uint8)
    rgba[40:, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.png", icc_profile=matrix_profile(ADOBE, 563 / 256))
    assert (read(tmp_path / "a.png")[40:] == 255).all()
