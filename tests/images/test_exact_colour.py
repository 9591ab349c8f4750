"""Profiles of curves and a matrix against LittleCMS at 16 bits, and against the formulas of the standards."""

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import ImageCms

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.images.decode import read
from linfusion_cli.images.exact_colour import curve_of, encoded, exact_transform
from linfusion_cli.images.icc import ADOBE, DISPLAY_P3, GAMMA_SRGB, SRGB, matrix_profile

imagecodecs = pytest.importorskip("imagecodecs")
tifffile = pytest.importorskip("tifffile")

SRGB_PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PROFILES = {
    "AdobeRGB": matrix_profile(ADOBE, 563 / 256),
    "Display P3": matrix_profile(DISPLAY_P3, GAMMA_SRGB, "Display P3"),
    "linear": matrix_profile(SRGB, 1.0),
}
COLOURS = np.random.default_rng(5).integers(0, 65536, (70, 40, 3), dtype=np.uint16)


def by_littlecms(pixels: np.ndarray, profile: bytes) -> np.ndarray:
    flags = imagecodecs.CMS.FLAGS.BLACKPOINTCOMPENSATION | imagecodecs.CMS.FLAGS.NOOPTIMIZE
    return imagecodecs.cms_transform(
        pixels, profile, SRGB_PROFILE, colorspace="rgb", outcolorspace="rgb", intent=1, flags=flags
    )


def para(kind: int, *numbers: float) -> bytes:
    return b"para\0\0\0\0" + struct.pack(">HH", kind, 0) + struct.pack(f">{len(numbers)}i", *(
        round(number * 65536) for number in numbers
    ))  # fmt: skip


@pytest.mark.parametrize("name", PROFILES)
def test_16_bits_are_converted_as_littlecms_does_at_16_bits(tmp_path: Path, name: str) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOURS, photometric="rgb", iccprofile=PROFILES[name], metadata=None)
    found, theirs = read(path), by_littlecms(COLOURS, PROFILES[name])
    assert found.dtype == np.uint16
    apart = np.abs(found.astype(int) - theirs)
    assert np.median(apart) <= 1
    assert apart.max() <= 40  # of 65535: near black, where the tables of LittleCMS are coarse
    assert np.abs(found.astype(int) - COLOURS).max() > 1000
    image = inspect_image(path, "init_image")
    assert image.number_bytes == 2
    named = '"Display P3"' if name == "Display P3" else "without a name"
    (note,) = image.notes
    assert note.endswith(f"its colours are converted from {named} to sRGB")


def test_neighbouring_levels_of_16_bits_stay_apart(tmp_path: Path) -> None:
    ramp = np.repeat(np.arange(30000, 34096, dtype=np.uint16).reshape(64, 64, 1), 3, axis=2)
    tifffile.imwrite(tmp_path / "a.tif", ramp, photometric="rgb", iccprofile=PROFILES["AdobeRGB"], metadata=None)
    assert len(np.unique(read(tmp_path / "a.tif")[:, :, 1])) > 4000


def test_display_p3_by_the_formulas() -> None:
    """Red of Display P3 in linear sRGB is (1.2249, -0.0420, -0.0196), by both spaces' primaries and white."""
    transform = exact_transform(PROFILES["Display P3"], "RGB")
    assert transform is not None
    red = transform.apply(np.array([[[0.6, 0.0, 0.0]]]))
    light = ((0.6 + 0.055) / 1.055) ** 2.4
    assert np.allclose(red[0, 0], encoded(light * np.array([1.2249, -0.0420, -0.0196])), atol=1e-4)
    assert np.allclose(transform.apply(np.full((1, 1, 3), 0.5)), 0.5, atol=1e-4)


@pytest.mark.parametrize(
    ("tag", "formula"),
    [
        (b"curv\0\0\0\0" + struct.pack(">I", 0), lambda x: x),
        (b"curv\0\0\0\0" + struct.pack(">IH", 1, 563), lambda x: x ** (563 / 256)),
        (b"curv\0\0\0\0" + struct.pack(">I3H", 3, 0, 16384, 65535), lambda x: np.interp(x, [0, 0.5, 1], [0, 0.25, 1])),
        (para(0, 1.8), lambda x: x**1.8),
        (para(1, 2.0, 2.0, -1.0), lambda x: np.where(x >= 0.5, (2 * x - 1).clip(0) ** 2, 0)),
        (para(2, 2.0, 1.0, 0.0, 0.0), lambda x: x**2),
        (para(3, 2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045), lambda x: np.where(
            x >= 0.04045, ((x + 0.055) / 1.055) ** 2.4, x / 12.92)),
        (para(4, 2.0, 0.5, 0.25, 0.5, 0.5, 0.25, 0.0), lambda x: np.where(x >= 0.5, (x / 2 + 0.25) ** 2 + 0.25, x / 2)),
    ],
)  # fmt: skip
def test_every_type_of_curve(tag: bytes, formula: Callable[[np.ndarray], np.ndarray]) -> None:
    places = np.linspace(0, 1, 1001)
    assert np.allclose(curve_of(tag)(places), formula(places), atol=5e-5)


def test_grey_of_16_bits_and_float_by_its_curve(tmp_path: Path) -> None:
    """A linear ramp through a grey profile of gamma 1 comes out with sRGB's curve, to one level of 65536."""
    profile = grey_profile(struct.pack(">4sIIH", b"curv", 0, 1, 256))
    ramp = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    tifffile.imwrite(tmp_path / "a.tif", ramp, photometric="minisblack", iccprofile=profile, metadata=None)
    found = read(tmp_path / "a.tif")
    assert np.abs(found[:, :, 0] - encoded(ramp / 65535) * 65535).max() <= 1
    tifffile.imwrite(
        tmp_path / "b.tif", (ramp / 65535).astype(np.float32), photometric="minisblack", iccprofile=profile,
        metadata=None,
    )  # fmt: skip
    assert np.allclose(read(tmp_path / "b.tif")[:, :, 0], encoded(ramp / 65535), atol=1e-6)


def grey_profile(curve: bytes) -> bytes:
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    tags = [(b"wtpt", white), (b"kTRC", curve + bytes(-len(curve) % 4))]
    table, data, offset = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, body in tags:
        table += name + struct.pack(">II", offset + len(data), len(body))
        data += body
    header = struct.pack(">I4sI4s4s4s", offset + len(data), b"\0" * 4, 0x02400000, b"mntr", b"GRAY", b"XYZ ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + data


def test_a_profile_with_a_table_is_applied_to_8_bits_and_said_so(tmp_path: Path) -> None:
    """A table comes before the curves: LittleCMS would use it, so the curves are not taken instead."""
    data = PROFILES["AdobeRGB"]
    assert exact_transform(data.replace(b"wtpt", b"A2B0"), "RGB") is None
    path = tmp_path / "a.tif"
    with_table = table_profile()
    tifffile.imwrite(path, COLOURS, photometric="rgb", iccprofile=with_table, metadata=None)
    image = inspect_image(path, "init_image")
    assert image.number_bytes == 1
    assert any("read as 8, since its profile is more than curves and a matrix" in note for note in image.notes)
    assert read(path).dtype == np.uint8
    float_path = tmp_path / "b.tif"
    tifffile.imwrite(
        float_path, (COLOURS / 65535).astype(np.float32), photometric="rgb", iccprofile=with_table, metadata=None
    )
    assert any("a matrix, and is applied to 8 bits" in note for note in inspect_image(float_path, "init_image").notes)
    rounded = (COLOURS / 65535 * 255).round().astype(np.uint8)
    tifffile.imwrite(path, rounded, photometric="rgb", iccprofile=with_table, metadata=None)
    assert np.allclose(read(float_path), read(path) / 255, atol=1e-6)


def table_profile() -> bytes:
    """A profile of the type lut8 with two points a side, which exchanges red and blue through CIELAB."""
    clut = bytes(
        value for red in (0, 1) for green in (0, 1) for blue in (0, 1)
        for value in (255 * (red + green + blue) // 3, 128 + 60 * (blue - green), 128 + 60 * (red - blue))
    )  # fmt: skip
    identity = struct.pack(">9i", 65536, 0, 0, 0, 65536, 0, 0, 0, 65536)
    ramp = bytes(range(256)) * 3
    lut = b"mft1\0\0\0\0" + bytes([3, 3, 2, 0]) + identity + ramp + clut + ramp
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    offset = 132 + 24
    table = struct.pack(">I4sII4sII", 2, b"wtpt", offset, 20, b"A2B0", offset + 20, len(lut))
    size = offset + 20 + len(lut)
    header = struct.pack(">I4sI4s4s4s", size, b"\0" * 4, 0x02400000, b"mntr", b"RGB ", b"Lab ")
    header += bytes(12) + b"acsp" + bytes(28) + struct.pack(">3i", 63190, 65536, 54061)
    return header.ljust(128, b"\0") + table + white + lut


@pytest.mark.parametrize("damage", [slice(0, 140), slice(0, 200), slice(0, 0)])
def test_a_damaged_profile_has_no_transform(damage: slice) -> None:
    assert exact_transform(PROFILES["AdobeRGB"][damage], "RGB") is None


def test_alpha_is_laid_on_white_after_the_colours_are_converted(tmp_path: Path) -> None:
    path, opaque = tmp_path / "a.tif", np.full((80, 8, 4), 65535, np.uint16)
    opaque[:, :, :3] = 30000
    half = opaque.copy()
    half[:, :, 3] = 32768
    tifffile.imwrite(
        path, opaque, photometric="rgb", extrasamples=["unassalpha"], iccprofile=PROFILES["linear"], metadata=None
    )
    full = read(path)[0, 0, 0] / 65535
    assert full == pytest.approx(float(encoded(np.array(30000 / 65535))), abs=1e-4)
    tifffile.imwrite(
        path, half, photometric="rgb", extrasamples=["unassalpha"], iccprofile=PROFILES["linear"], metadata=None
    )
    assert read(path)[0, 0, 0] / 65535 == pytest.approx(full / 2 + 0.5, abs=1e-4)
