import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.images.complete import check_complete
from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.opening import opened

PHOTO = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)


def checked(path: Path) -> str:
    with opened(path) as image:
        return check_complete(image, path)


def saved(kind: str, **options: object) -> bytes:
    sink = io.BytesIO()
    Image.fromarray(PHOTO).save(sink, format=kind, **options)
    return sink.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "AVIF"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_file_that_is_cut_short_is_found(tmp_path: Path, kind: str, part: float) -> None:
    data = saved(kind)
    (tmp_path / "a").write_bytes(data)
    assert checked(tmp_path / "a") == ""
    (tmp_path / "a").write_bytes(data[: int(len(data) * part)])
    with pytest.raises(ImageError, match=r"damaged|cut short"):
        checked(tmp_path / "a")


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_may_lack_its_end_marker_alone(tmp_path: Path, progressive: bool) -> None:
    data = saved("JPEG", progressive=progressive)
    (tmp_path / "a.jpg").write_bytes(data[:-2])
    assert "its end marker is missing" in checked(tmp_path / "a.jpg")
    for cut in (40, 200, len(data) // 2):
        (tmp_path / "a.jpg").write_bytes(data[:-cut])
        with pytest.raises(ImageError, match=r"cut short|damaged"):
            checked(tmp_path / "a.jpg")


def test_a_progressive_jpeg_that_ends_between_two_scans_is_cut_short(tmp_path: Path) -> None:
    data = saved("JPEG", progressive=True)
    (tmp_path / "a.jpg").write_bytes(data[: data.rindex(b"\xff\xda")])
    with pytest.raises(ImageError, match="cut short"):
        checked(tmp_path / "a.jpg")


def test_a_png_keeps_its_pixels_without_its_end_and_with_more_behind(tmp_path: Path) -> None:
    data = saved("PNG")
    for changed in (data[:-12], data + b"more"):
        (tmp_path / "a.png").write_bytes(changed)
        assert "behind its pixels" in checked(tmp_path / "a.png")


def test_a_png_with_a_changed_byte_is_damaged(tmp_path: Path) -> None:
    data = bytearray(saved("PNG"))
    data[len(data) // 2] ^= 1
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(ImageError, match="damaged"):
        checked(tmp_path / "a.png")
