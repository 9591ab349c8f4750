"""Formats of more than 8 bits besides PNG and TIFF."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.images.decode import read

RAMP = np.linspace(0, 1, 64 * 64, dtype=np.float32).reshape(64, 64)


def test_float_grey_of_jpeg_xl_is_no_black_image(tmp_path: Path) -> None:
    """Pillow's mode F turned into 8 bits is 0 and 1; its numbers are linear light, by the profile that it has."""
    pytest.importorskip("pillow_jxl")
    Image.fromarray(RAMP).save(tmp_path / "a.jxl", lossless=True)
    found = read(tmp_path / "a.jxl")
    assert found.dtype == np.float32
    curve = np.where(RAMP <= 0.0031308, 12.92 * RAMP, 1.055 * RAMP ** (1 / 2.4) - 0.055)
    assert min(np.abs(found[:, :, 0] - RAMP).max(), np.abs(found[:, :, 0] - curve).max()) < 0.01
