"""sRGB becomes Display P3: known colours, white and black, and profiles that other programs read."""

import io

import numpy as np
import pytest
from PIL import ImageCms

from linfusion_cli.file_formats import FileSettings
from linfusion_cli.output.formats.colour import icc_profile, in_profile, to_display_p3, with_bits


@pytest.mark.parametrize(
    ("srgb", "p3"),
    [
        ((1, 1, 1), (1, 1, 1)),
        ((0, 0, 0), (0, 0, 0)),
        ((1, 0, 0), (0.9175, 0.2003, 0.1386)),
        ((0, 1, 0), (0.4584, 0.9853, 0.2983)),
    ],
)
def test_known_colours(srgb: tuple[float, ...], p3: tuple[float, ...]) -> None:
    """CSS Color 4's values of color(display-p3 ...) for sRGB red and green."""
    rows = (np.array(srgb) * 65535).astype(np.uint16).reshape(1, 1, 3)
    assert to_display_p3(rows).ravel() / 65535 == pytest.approx(p3, abs=3e-4)


def test_rows_in_srgb_stay_as_they_are() -> None:
    rows = np.arange(60, dtype=np.uint8).reshape(4, 5, 3)
    assert next(in_profile(iter([rows]), FileSettings())) is rows


def test_sixteen_bits_round_to_eight() -> None:
    rows = np.arange(65536, dtype=np.uint16)
    assert np.array_equal(with_bits(rows, 8), np.round(rows / 257).astype(np.uint8))
    assert with_bits(rows, 16) is rows


def test_profiles_are_read() -> None:
    for name, shown in (("srgb", "sRGB"), ("display-p3", "Display P3")):
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc_profile("srgb" if name == "srgb" else "display-p3")))
        assert ImageCms.getProfileDescription(profile).strip() == shown
