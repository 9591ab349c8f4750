import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from linfusion_cli.images.icc import ADOBE, GAMMA_SRGB, SRGB, Chromaticities, matrix_profile


def converted(profile: bytes, levels: np.ndarray) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    transform = ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), "RGB", "RGB", renderingIntent=1)
    return np.asarray(ImageCms.applyTransform(Image.fromarray(levels), transform))


def test_the_profile_of_srgb_changes_nothing() -> None:
    levels = np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8)
    assert np.abs(converted(matrix_profile(SRGB, GAMMA_SRGB), levels).astype(int) - levels).max() <= 1


def test_greys_stay_grey_and_adobe_green_is_greener() -> None:
    grey = np.full((1, 1, 3), 128, np.uint8)
    assert np.ptp(converted(matrix_profile(ADOBE, 563 / 256), grey)) <= 1
    shown = converted(matrix_profile(ADOBE, 563 / 256), np.array([[[150, 180, 150]]], np.uint8))[0, 0]
    assert shown[1] - shown[0] > 30 + 5


@pytest.mark.parametrize("numbers", [(0.3,) * 8, (0.3, 0, 0.6, 0.3, 0.3, 0.6, 0.15, 0.06)])
def test_impossible_primaries_are_none(numbers: tuple[float, ...]) -> None:
    assert Chromaticities.of(numbers) is None
