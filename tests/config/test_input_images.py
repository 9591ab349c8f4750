"""Images that a user brings: formats, orientation, transparency, depth, bombs, damage."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.config.input_images import fitting_note, inspect_image, parse_range
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.images.input_image import read_pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(path: Path, colour: int, values: np.ndarray) -> Path:
    """A PNG of 16 bits per channel, (height, width, channels); colour: PNG's colour type. Pillow writes none."""
    height, width = values.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    header = struct.pack(">IIBBBBB", width, height, 16, colour, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return path


def deep_tiff(path: Path, values: np.ndarray) -> Path:
    """An uncompressed TIFF of 16 bits per channel; values: (height, width, 3)."""
    height, width = values.shape[:2]
    data = values.astype("<u2").tobytes()
    bits = 8 + len(data)
    fields = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, bits), (259, 3, 1, 1), (262, 3, 1, 2)]
    fields += [(273, 4, 1, 8), (277, 3, 1, 3), (278, 4, 1, height), (279, 4, 1, len(data))]
    directory = (
        struct.pack("<H", len(fields))
        + b"".join(struct.pack("<HHII", *field) for field in fields)
        + struct.pack("<I", 0)
    )
    path.write_bytes(b"II*\0" + struct.pack("<I", bits + 6) + data + struct.pack("<HHH", 16, 16, 16) + directory)
    return path


def gradient(width: int = 12, height: int = 8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("ending", ["png", "tiff", "webp", "jpg"])
def test_formats(tmp_path: Path, ending: str) -> None:
    path, options = tmp_path / f"a.{ending}", {"lossless": True} if ending == "webp" else {}
    Image.fromarray(gradient()).save(path, **options)
    image = inspect_image(path, "upscale_image")
    assert (image.size, image.notes) == (Size(12, 8), ())
    pixels = read_pixels(image, "upscale_image")
    assert (pixels.shape, pixels.dtype) == ((8, 12, 3), np.uint8)
    if ending != "jpg":
        assert np.array_equal(pixels, gradient())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / "a.png", exif=exif)
    image = inspect_image(tmp_path / "a.png", "upscale_image")
    assert image.size == (Size(8, 12) if orientation >= 5 else Size(12, 8))
    a = gradient()
    upright = [
        a,
        a[:, ::-1],
        a[::-1, ::-1],
        a[::-1],
        a.swapaxes(0, 1),
        np.rot90(a, -1),
        a[::-1, ::-1].swapaxes(0, 1),
        np.rot90(a),
    ]
    wanted = upright[orientation - 1]
    assert np.array_equal(read_pixels(image, "upscale_image"), wanted)


def test_transparency_is_laid_on_white_with_a_note(tmp_path: Path) -> None:
    rgba = np.dstack([gradient(), np.zeros((8, 12), dtype=np.uint8)])
    rgba[0, 0, 3] = 255
    Image.fromarray(rgba).save(tmp_path / "a.png")
    image = inspect_image(tmp_path / "a.png", "upscale_image")
    assert image.notes == ("upscale_image a.png: its transparency is laid on white",)
    pixels = read_pixels(image, "upscale_image")
    assert np.array_equal(pixels[0, 0], gradient()[0, 0])
    assert (pixels[1:] == 255).all()


def test_sixteen_bits_are_kept(tmp_path: Path) -> None:
    deep = np.array([[0, 1, 40000, 65535]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "a.png")
    pixels = read_pixels(inspect_image(tmp_path / "a.png", "upscale_image"), "upscale_image")
    assert np.array_equal(pixels[0, :, 0], deep[0])


@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_sixteen_bits_of_colour_are_kept(tmp_path: Path, ending: str) -> None:
    deep = np.array([[[0, 255, 256], [0x80FF, 0x7F00, 40000], [65535, 65280, 1]]], dtype=np.uint16)
    path = deep_png(tmp_path / "a.png", 2, deep) if ending == "png" else deep_tiff(tmp_path / "a.tiff", deep)
    image = inspect_image(path, "upscale_image")
    assert (image.notes, image.number_bytes) == ((), 2)
    assert np.array_equal(read_pixels(image, "upscale_image"), deep)


def test_sixteen_bits_with_transparency(tmp_path: Path) -> None:
    path = deep_png(tmp_path / "a.png", 6, np.array([[[65535, 0, 32768, 65535], [0, 0, 0, 0]]], dtype=np.uint16))
    image = inspect_image(path, "upscale_image")
    assert image.notes == ("upscale_image a.png: its transparency is laid on white",)
    assert np.array_equal(read_pixels(image, "upscale_image"), [[[65535, 0, 32768], [65535, 65535, 65535]]])


@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_an_orientation_that_stands_behind_the_pixels(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(gradient()).save(tmp_path / "before.png", exif=exif)
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    end = len(data) - 12  # of IEND
    (tmp_path / "a.png").write_bytes(data[:end] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + data[end:])
    before, behind = (inspect_image(tmp_path / name, "upscale_image") for name in ("before.png", "a.png"))
    assert behind.size == before.size
    assert np.array_equal(read_pixels(behind, "upscale_image"), read_pixels(before, "upscale_image"))


def test_a_png_whose_chunks_are_damaged_has_no_orientation(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:-12] + chunk(b"eXIf", b"nonsense") + b"\xff\xff\xff\xff")
    image = inspect_image(tmp_path / "a.png", "upscale_image")
    assert image.size == Size(12, 8)


@pytest.mark.parametrize(
    ("pillows_limit", "message"),
    [(None, r"60000x60000 pixels; at most 512 megapixels"), (1000, r"larger than twice Pillow's limit .* 1000 pixels")],
)
def test_a_bomb_is_refused_by_its_header_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pillows_limit: int | None, message: str
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillows_limit)
    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (tmp_path / "a.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    )
    with pytest.raises(UsageError, match=message):
        inspect_image(tmp_path / "a.png", "upscale_image")
    assert pillows_limit == Image.MAX_IMAGE_PIXELS


def test_what_is_no_image_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"init_image .*no such file"):
        inspect_image(tmp_path / "none.png", "init_image")
    (tmp_path / "a.png").write_text("hello")
    with pytest.raises(UsageError, match=r"is a text\. Allowed: PNG, JPEG, WebP, TIFF"):
        inspect_image(tmp_path / "a.png", "upscale_image")
    with pytest.raises(UsageError, match="is a folder"):
        inspect_image(tmp_path, "upscale_image")
    Image.fromarray(gradient(200, 200)).save(tmp_path / "b.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "b.png").read_bytes()[:20000])
    with pytest.raises(UsageError, match="damaged or cut short"):
        inspect_image(tmp_path / "b.png", "upscale_image")


def test_an_image_that_changes_after_it_was_looked_at_is_refused(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    image = inspect_image(tmp_path / "a.png", "upscale_image")
    Image.fromarray(gradient()[::-1]).save(tmp_path / "a.png")
    with pytest.raises(UsageError, match="changed since"):
        read_pixels(image, "upscale_image")


def test_how_another_aspect_is_fitted_is_said(tmp_path: Path) -> None:
    Image.fromarray(gradient()).save(tmp_path / "a.png")
    image = inspect_image(tmp_path / "a.png", "control_images")
    assert fitting_note(image, "control_images", Size(96, 64)) == ""
    note = fitting_note(image, "control_images", Size(64, 64))
    assert note == "control_images a.png: 12x8 is fitted to the shape of 64x64 by cutting off 33 % at left and right"
    assert "top and bottom" in fitting_note(image, "x", Size(128, 64))


@pytest.mark.parametrize("text", ["", "1", "0..x", "nan..1", "5..5", "9..2", "1..inf"])
def test_a_range_that_is_none_is_refused_with_one_that_is_accepted(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_range(text)
    low, high = parse_range(str(caught.value).rpartition("Nearest: ")[2])
    assert low < high
