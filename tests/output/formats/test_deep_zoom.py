"""Every level of a deep zoom has its size and its tiles; each is half of the one above."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from format_samples import TEXTS, image_of, in_pieces, settings_of
from PIL import Image

from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.deep_zoom import level_count, level_size, tiles_folder
from linfusion_cli.output.formats.strips import halved
from linfusion_cli.output.formats.writer import write_image


def test_levels() -> None:
    size = Size(1000, 30)
    assert level_count(size) == 11
    assert [level_size(size, level) for level in (0, 5, 9, 10)] == [Size(1, 1), Size(32, 1), Size(500, 15), size]


@pytest.mark.slow
@pytest.mark.parametrize("size", [Size(1, 1), Size(254, 255), Size(253, 509), Size(600, 511)])
def test_tiles_of_every_level(tmp_path: Path, size: Size) -> None:
    path, image = tmp_path / "a.b.dzi", image_of(size)
    write_image(path, size, settings_of("dzi", size, lossless=True), TEXTS, in_pieces(image), overwrite=False)
    root = ElementTree.fromstring(path.read_text())
    namespace = "{http://schemas.microsoft.com/deepzoom/2008}"
    assert root.attrib == {"Format": "png", "Overlap": "1", "TileSize": "254"}
    sides = root.find(f"{namespace}Size")
    assert sides is not None
    assert sides.attrib == {"Width": str(size.width), "Height": str(size.height)}
    assert tiles_folder(path) == tmp_path / "a.b_files"
    expected = image
    for level in reversed(range(level_count(size))):
        assert expected.shape[:2] == (level_size(size, level).height, level_size(size, level).width)
        tiles = list((tmp_path / "a.b_files" / str(level)).iterdir())
        assert len(tiles) == -(-expected.shape[0] // 254) * -(-expected.shape[1] // 254)
        for tile in tiles:
            column, row = map(int, re.findall(r"\d+", tile.name))
            left, top = max(0, column * 254 - 1), max(0, row * 254 - 1)
            part = expected[top : (row + 1) * 254 + 1, left : (column + 1) * 254 + 1]
            with Image.open(tile) as opened:
                assert np.array_equal(np.asarray(opened), part)
        expected = halved(expected)
