"""Code points of H.273 in PNG, AVIF and HEIC: used, or named."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.config.input_images import inspect_image
from linfusion_cli.errors import UsageError
from linfusion_cli.images.coded_colours import CURVES, PRIMARIES
from linfusion_cli.images.decode import read
from linfusion_cli.images.exact_colour import encoded
from linfusion_cli.images.icc import ADOBE, matrix_profile

LEVELS = np.random.default_rng(1).integers(0, 256, (70, 40, 3), dtype=np.uint8)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(path: Path, pixels: np.ndarray, *chunks: bytes) -> Path:
    """An RGB PNG of the bits of `pixels`, with chunks before its pixels."""
    height, width = pixels.shape[:2]
    bits = 8 * pixels.dtype.itemsize
    rows = b"".join(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0))
    data = b"".join(chunks) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + data)
    return path


def cicp(*points: int) -> bytes:
    return chunk(b"cICP", bytes(points))


def notes(path: Path) -> str:
    return " ".join(inspect_image(path, "init_image").notes)


@pytest.mark.parametrize("points", [(1, 13, 0, 1), (2, 2, 0, 1)])
def test_srgb_changes_nothing(tmp_path: Path, points: tuple[int, ...]) -> None:
    path = png(tmp_path / "a.png", LEVELS, cicp(*points))
    assert np.array_equal(read(path), LEVELS)
    assert notes(path) == ""


@pytest.mark.parametrize("bits", [8, 16])
def test_display_p3_and_bt709_are_converted(tmp_path: Path, bits: int) -> None:
    largest = (1 << bits) - 1
    pixels = (LEVELS.astype(float) / 255 * largest).astype(np.uint8 if bits == 8 else np.uint16)
    tolerance = 2 if bits == 8 else 4
    path = png(tmp_path / "a.png", pixels, cicp(12, 13, 0, 1))
    light = np.where(pixels / largest <= 0.04045, pixels / largest / 12.92, ((pixels / largest + 0.055) / 1.055) ** 2.4)
    matrix = np.array([[1.2249401, -0.2249402, 0], [-0.0420569, 1.0420571, 0], [-0.0196376, -0.0786361, 1.0982735]])
    assert np.abs(read(path) - encoded(light @ matrix.T) * largest).max() <= tolerance
    assert "converted from Display P3 (by its cICP) to sRGB" in notes(path)
    path = png(tmp_path / "b.png", pixels, cicp(1, 1, 0, 1))
    assert np.abs(read(path) - encoded((pixels / largest) ** 2.4) * largest).max() <= tolerance
    assert "BT.709, BT.1886 curve" in notes(path)
    assert read(path).dtype == pixels.dtype


@pytest.mark.parametrize("bits", [8, 16])
def test_gamma_and_primaries_of_a_png_at_its_own_bits(tmp_path: Path, bits: int) -> None:
    largest = (1 << bits) - 1
    pixels = (LEVELS.astype(float) / 255 * largest).astype(np.uint8 if bits == 8 else np.uint16)
    srgb = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
    path = png(tmp_path / "a.png", pixels, chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"cHRM", srgb))
    assert np.abs(read(path) - encoded(pixels / largest) * largest).max() <= (3 if bits == 8 else 1)
    assert "converted" in notes(path)


def test_primaries_of_a_png_are_converted_as_a_profile_with_them(tmp_path: Path) -> None:
    """The gamma of AdobeRGB is near that which stands for the curve of sRGB: read so, it was up to 17 levels off."""
    primaries = struct.pack(
        ">8I",
        *(round(100_000 * number) for point in (ADOBE.white, ADOBE.red, ADOBE.green, ADOBE.blue) for number in point),
    )
    gamma = struct.pack(">I", round(100_000 * 256 / 563))
    by_chunks = png(tmp_path / "a.png", LEVELS, chunk(b"gAMA", gamma), chunk(b"cHRM", primaries))
    profile = b"x\0\0" + zlib.compress(matrix_profile(ADOBE, 563 / 256))
    by_profile = png(tmp_path / "b.png", LEVELS, chunk(b"iCCP", profile))
    assert np.abs(read(by_chunks).astype(int) - read(by_profile)).max() <= 2
    assert np.abs(read(by_chunks).astype(int) - LEVELS).max() > 10


def test_cicp_comes_before_a_profile(tmp_path: Path) -> None:
    profile = b"x\0\0" + zlib.compress(matrix_profile(ADOBE, 563 / 256))
    path = png(tmp_path / "a.png", LEVELS, chunk(b"iCCP", profile), cicp(1, 13, 0, 1))
    assert np.array_equal(read(path), LEVELS)


@pytest.mark.parametrize(
    ("points", "reason"),
    [
        ((9, 16, 0, 1), r"HDR image: PQ \(SMPTE ST 2084\) by its cICP. Save it as SDR"),
        ((9, 18, 0, 1), "HDR image: HLG"),
        ((1, 13, 0, 0), "video range"),
    ],
)
def test_hdr_and_video_range_are_refused_by_name(tmp_path: Path, points: tuple[int, ...], reason: str) -> None:
    path = png(tmp_path / "a.png", LEVELS, cicp(*points))
    with pytest.raises(UsageError, match=reason):
        inspect_image(path, "init_image")


@pytest.mark.parametrize("points", [(22, 13, 0, 1), (1, 7, 0, 1), (1, 13, 6, 1), (0, 0, 0, 1)])
def test_code_points_that_are_not_known_are_told(tmp_path: Path, points: tuple[int, ...]) -> None:
    path = png(tmp_path / "a.png", LEVELS, cicp(*points))
    assert np.array_equal(read(path), LEVELS)
    assert f"the code points of its cICP ({points[0]}, {points[1]}, {points[2]}) are not known" in notes(path)


@pytest.mark.slow
@pytest.mark.parametrize("primaries", PRIMARIES)
@pytest.mark.parametrize("curve", CURVES)
def test_white_stays_white_and_black_black(tmp_path: Path, primaries: int, curve: int) -> None:
    both = np.array([[[255] * 3, [0] * 3]], np.uint8)
    assert np.abs(read(png(tmp_path / "a.png", both, cicp(primaries, curve, 0, 1))).astype(int) - both).max() <= 1


def with_nclx(path: Path, primaries: int, transfer: int) -> Path:
    data = bytearray(path.read_bytes())
    at = data.index(b"colrnclx") + 8
    data[at : at + 4] = struct.pack(">HH", primaries, transfer)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize("ending", ["avif", "heic"])
def test_avif_and_heic_by_their_nclx_box(tmp_path: Path, ending: str) -> None:
    if ending == "heic":
        pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / f"a.{ending}"
    Image.new("RGB", (64, 64), (200, 60, 60)).save(path)
    plain = read(path).astype(int)
    assert "converted" not in notes(path)
    assert np.array_equal(read(with_nclx(path, 1, 1)), plain)  # the curve of video is what encoders write for sRGB
    shown = read(with_nclx(path, 12, 13)).astype(int)
    assert "Display P3 (by its nclx box)" in notes(path)
    assert shown[0, 0, 0] > plain[0, 0, 0] + 5
    for transfer, name in ((16, "PQ"), (18, "HLG")):
        with pytest.raises(UsageError, match=f"HDR image: {name}"):
            inspect_image(with_nclx(path, 9, transfer), "init_image")
