from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.images.errors import ImageError
from linfusion_cli.images.opening import has_alpha, lacks_jpeg_end, opened, orientation_of


@pytest.mark.parametrize(("kind", "found"), [("AVIF", "AVIF"), ("GIF", "GIF"), ("BMP", "BMP"), ("HEIF", "HEIF")])
def test_names_do_not_matter(tmp_path: Path, kind: str, found: str) -> None:
    pytest.importorskip("pillow_heif").register_heif_opener()
    path = tmp_path / "photo.jpg"
    Image.fromarray(np.full((16, 16, 3), 200, np.uint8)).save(path, format=kind)
    with opened(path) as image:
        image.load()
        assert (image.format, image.size, orientation_of(image, path)) == (found, (16, 16), 1)


def test_a_missing_plugin_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "photo.jpg").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    with pytest.raises(ImageError, match=r"is a HEIC image.*linfusion-cli\[heic\]"), opened(tmp_path / "photo.jpg"):
        pass


def test_jpeg_xl_is_read(tmp_path: Path) -> None:
    pytest.importorskip("pillow_jxl")
    Image.fromarray(np.full((16, 24, 3), 200, np.uint8)).save(tmp_path / "a.jxl", lossless=True)
    with opened(tmp_path / "a.jxl") as image:
        image.load()
        assert (image.format, image.size, has_alpha(image)) == ("JXL", (24, 16), False)


def test_a_jpeg_without_its_end_is_noticed(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16)).save(tmp_path / "a.jpg")
    assert not lacks_jpeg_end(tmp_path / "a.jpg")
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes()[:-2])
    assert lacks_jpeg_end(tmp_path / "a.jpg")
