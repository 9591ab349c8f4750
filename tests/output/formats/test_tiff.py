"""TIFF tags as tifffile and Pillow read them; BigTIFF where 4 GB may not do."""

from pathlib import Path

import numpy as np
import pytest
from format_samples import TEXTS, image_of, in_pieces, settings_of
from PIL import Image

from linfusion_cli.geometry import Size
from linfusion_cli.output.formats import tiff
from linfusion_cli.output.formats.tiff import level_sizes
from linfusion_cli.output.formats.writer import write_image

tifffile = pytest.importorskip("tifffile")


def test_levels_halve_down_to_a_tile() -> None:
    assert level_sizes(Size(1000, 300)) == [Size(500, 150), Size(250, 75)]
    assert level_sizes(Size(256, 256)) == []


def test_tags(tmp_path: Path) -> None:
    size, path = Size(300, 260), tmp_path / "a.tif"
    write_image(path, size, settings_of("tiff", size, dpi=150), TEXTS, in_pieces(image_of(size)), overwrite=False)
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        assert tags["XResolution"].value == (150, 1)
        assert tags["Software"].value == "linfusion"
        assert b"<linfusion:record>" in bytes(tags[700].value)
        assert tags["TileWidth"].value == 256
    with Image.open(path) as image:
        assert np.array_equal(np.asarray(image), image_of(size))
        assert image.tag_v2[270].startswith('a <b> & "c"')


def test_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiff, "LARGEST_CLASSIC_BYTES", 1000)
    size, path = Size(300, 260), tmp_path / "a.tif"
    image = image_of(size, 16)
    write_image(path, size, settings_of("tiff", size, bits=16, pyramid=True), TEXTS, in_pieces(image), overwrite=False)
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert np.array_equal(file.asarray(), image)
