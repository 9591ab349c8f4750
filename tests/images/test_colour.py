import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from linfusion_cli.images.colour import colours_of
from linfusion_cli.images.decode import read
from linfusion_cli.images.icc import ADOBE, DISPLAY_P3, GAMMA_SRGB, matrix_profile
from linfusion_cli.images.opening import opened

LEVELS = np.random.default_rng(1).integers(0, 256, (70, 40, 3), dtype=np.uint8)
ADOBE_PROFILE = matrix_profile(ADOBE, 563 / 256)
P3_PROFILE = matrix_profile(DISPLAY_P3, GAMMA_SRGB, "Display P3")


def note(path: Path) -> str:
    with opened(path) as image:
        return colours_of(image, path).note


@pytest.mark.parametrize("kind", ["png", "jpg", "tif", "webp", "avif"])
@pytest.mark.parametrize("profile", [ADOBE_PROFILE, P3_PROFILE], ids=["AdobeRGB", "Display P3"])
def test_a_profile_is_converted_strip_by_strip_as_at_once(tmp_path: Path, kind: str, profile: bytes) -> None:
    path = tmp_path / f"a.{kind}"
    Image.fromarray(LEVELS).save(path, icc_profile=profile)
    with Image.open(path) as image:
        at_once = ImageCms.profileToProfile(
            image, ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB"),
            renderingIntent=1, flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )  # fmt: skip
        before = np.asarray(image.convert("RGB")).astype(int)
    assert np.array_equal(read(path), np.asarray(at_once))
    assert np.abs(read(path) - before).max() > 10
    assert "converted from" in note(path)


def test_vips_converts_to_the_same_colours(tmp_path: Path) -> None:
    pyvips = pytest.importorskip("pyvips")
    smooth = np.stack([*np.meshgrid(np.arange(60, 200), np.arange(60, 200)), np.full((140, 140), 128)], -1)
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.tif", icc_profile=ADOBE_PROFILE)
    theirs = pyvips.Image.new_from_file(str(tmp_path / "a.tif")).icc_transform("srgb", embedded=True).numpy()
    assert np.abs(read(tmp_path / "a.tif").astype(int) - theirs).max() <= 2


def test_a_profile_of_srgb_changes_no_pixel(tmp_path: Path) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(LEVELS).save(tmp_path / "a.png", icc_profile=profile)
    assert np.array_equal(read(tmp_path / "a.png"), LEVELS)
    assert note(tmp_path / "a.png") == ""


@pytest.mark.parametrize(("gamma", "changes"), [(45455, False), (100000, True), (0, False)])
def test_the_gamma_of_a_png(tmp_path: Path, gamma: int, changes: bool) -> None:
    info = PngImagePlugin.PngInfo()
    info.add(b"gAMA", gamma.to_bytes(4, "big"))
    Image.fromarray(LEVELS).save(tmp_path / "a.png", pnginfo=info)
    assert np.array_equal(read(tmp_path / "a.png"), LEVELS) is not changes
    assert ("converted" in note(tmp_path / "a.png")) is changes
    if changes:  # linear light: sRGB's curve by hand
        light = LEVELS / 255
        curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
        assert np.abs(read(tmp_path / "a.png") - curve * 255).max() <= 2


def test_a_profile_that_is_no_profile_is_told(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).save(tmp_path / "a.jpg", icc_profile=b"nonsense" * 20)
    assert "damaged and not used" in note(tmp_path / "a.jpg")


def test_colours_of_ink_and_of_cielab(tmp_path: Path) -> None:
    Image.fromarray(LEVELS).convert("CMYK").save(tmp_path / "a.tif")
    assert "CMYK" in note(tmp_path / "a.tif")
    Image.new("LAB", (8, 8), (128, 128, 128)).save(tmp_path / "b.tif")
    assert "CIELAB" in note(tmp_path / "b.tif")
    assert np.ptp(read(tmp_path / "b.tif")) <= 2
