"""Any image file as rows: sRGB, upright, on white; what can't be shown is refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.errors import UsageError
from linfusion_cli.file_formats import BY_NAME, file_settings
from linfusion_cli.geometry import Size
from linfusion_cli.images.decode import read
from linfusion_cli.output.formats.writer import write_image
from linfusion_cli.output.metadata import KEYWORD, PARAMETERS
from linfusion_cli.viewer import source
from linfusion_cli.viewer.source import open_source


def pixels(path: Path) -> np.ndarray[Any, Any]:
    opened = open_source(path)
    found = np.concatenate(list(opened.rows()))
    assert found.shape == (opened.size.height, opened.size.width, 3)
    assert found.dtype == np.uint8
    return found


@pytest.mark.parametrize("name", ["png", "jpeg", "tiff", "webp"])
@pytest.mark.parametrize("profile", ["srgb", "display-p3"])
def test_what_linfusion_writes_is_shown_in_srgb(tmp_path: Path, photo: Any, name: str, profile: str) -> None:
    chosen = BY_NAME[name]
    pytest.importorskip("tifffile" if name == "tiff" else "PIL")
    size = Size(photo.shape[1], photo.shape[0])
    settings = file_settings(chosen, {"color_profile": profile}, size)
    rows = photo.astype(np.uint16) * 257 if settings.row_bits == 16 else photo
    path = tmp_path / f"x{chosen.endings[0]}"
    write_image(path, size, settings, {KEYWORD: "{}", PARAMETERS: "a"}, iter([rows]), overwrite=False)
    shown = pixels(path)
    assert np.abs(shown.astype(int) - photo).mean() < 3
    if name != "tiff" or profile == "srgb":
        whole = read(path)
        whole = whole >> 8 if whole.dtype == np.uint16 else whole
        assert np.abs(shown.astype(int) - whole).max() <= 1


def test_transparency_is_on_white_and_a_turned_photo_upright(tmp_path: Path) -> None:
    Image.new("RGBA", (9, 5), (10, 20, 30, 0)).save(tmp_path / "x.png")
    assert (pixels(tmp_path / "x.png") == 255).all()
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.new("RGB", (40, 16), (255, 0, 0))
    turned.save(tmp_path / "x.jpg", exif=exif)
    assert pixels(tmp_path / "x.jpg").shape == (40, 16, 3)


def test_an_interlaced_png_and_a_plain_jpeg_are_decoded_whole(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).save(tmp_path / "x.jpg")
    assert np.array_equal(pixels(tmp_path / "x.jpg"), np.asarray(Image.open(tmp_path / "x.jpg")))


def test_a_large_jpeg_without_restart_markers_is_shown_smaller_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, photo: Any
) -> None:
    monkeypatch.setattr(source, "LARGEST_DRAFT_PX", photo.shape[0] * photo.shape[1] // 10)
    Image.fromarray(photo).save(tmp_path / "x.jpg")
    assert open_source(tmp_path / "x.jpg").note == "this JPEG has no restart markers: it is shown at 1/4 of its size"
    assert pixels(tmp_path / "x.jpg").shape == (51, 130, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not known"),
        (b"hello", "Allowed: PNG, JPEG"),
        (b"\x89PNG\r\n\x1a\n" + bytes(30), "damaged"),
        (None, "no such file"),
    ],
)
def test_what_is_no_image_is_refused(tmp_path: Path, data: bytes | None, message: str) -> None:
    path = tmp_path / "x.png"
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(UsageError, match=message):
        open_source(path)


def test_damage_in_the_middle_names_the_file(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).save(tmp_path / "x.png")
    data = (tmp_path / "x.png").read_bytes()
    (tmp_path / "x.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(UsageError, match=r"x\.png"):
        pixels(tmp_path / "x.png")
