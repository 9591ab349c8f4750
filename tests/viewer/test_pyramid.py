"""The tiles of an image: made once, found again, cut right; a .dzi of any program; what goes wrong is told."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.viewer import pyramid
from linfusion_cli.viewer.pyramid import OVERVIEW_PX, level_count, open_pyramid, overview_of


@pytest.fixture
def image(tmp_path: Path, photo: Any) -> Path:
    Image.fromarray(photo).save(tmp_path / "x.png")
    return tmp_path / "x.png"


def made(path: Path, cache: Path) -> pyramid.Pyramid:
    found, thread = open_pyramid(path, cache)
    if thread is not None:
        thread.start()
        thread.join()
    return found


def test_tiles_are_made_in_the_background_and_kept(tmp_path: Path, image: Path, photo: Any) -> None:
    cache = tmp_path / "cache"
    found, thread = open_pyramid(image, cache)
    assert thread is not None
    assert not found.ready
    assert found.tile((0, 0, 0)) is None
    thread.start()
    thread.join()
    assert (found.ready, found.rows_read, found.error) == (True, 203, "")
    top = level_count(found.size) - 1
    tile = np.asarray(Image.open(io.BytesIO(found.tile((top, 1, 0)) or b"")))
    assert np.abs(tile.astype(int) - photo[0:203, 253:509]).mean() < 3
    assert found.tile((top, 9, 9)) is None
    assert np.array_equal(found.overview, photo)  # it is smaller than an overview may be
    again, none = open_pyramid(image, cache)
    assert (again.ready, none) == (True, None)
    assert len(list(cache.iterdir())) == 1
    Image.fromarray(photo[:, ::-1]).save(image)
    assert open_pyramid(image, cache)[1] is not None


def test_an_overview_is_small_and_of_the_whole_image(tmp_path: Path) -> None:
    pixels = np.zeros((70, 3000, 3), dtype=np.uint8)
    pixels[:, 1500:] = 200
    Image.fromarray(pixels).save(tmp_path / "x.png")
    found = overview_of(tmp_path / "x.png")
    assert found.shape == (24, 1000, 3)
    assert max(found.shape) <= OVERVIEW_PX
    assert (found[:, :500] == 0).all()
    assert (found[:, 500:] == 200).all()


def test_damage_in_the_middle_is_the_pyramid_s_error_and_leaves_nothing(tmp_path: Path, image: Path) -> None:
    image.write_bytes(image.read_bytes()[:-400])
    found = made(image, tmp_path / "cache")
    assert not found.ready
    assert "x.png" in found.error
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_full_disk_is_the_pyramid_s_error(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pyramid, "write_levels", full)
    found = made(image, tmp_path / "cache")
    assert "No space left on device" in found.error


def test_a_cache_that_can_t_be_made_is_refused(tmp_path: Path, image: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't hold the tiles"):
        open_pyramid(image, tmp_path / "file" / "cache")


def test_the_oldest_tiles_go(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pyramid, "KEPT_IMAGES", 3)
    cache = tmp_path / "cache"
    for number in range(5):
        (cache / f"old{number}").mkdir(parents=True)
        os.utime(cache / f"old{number}", (number, number))
    (cache / ".left").mkdir()
    os.utime(cache / ".left", (0, 0))
    made(image, cache)
    assert sorted(path.name for path in cache.iterdir() if path.name.startswith("old")) == ["old3", "old4"]
    assert not (cache / ".left").exists()


FOREIGN = """<?xml version='1.0'?>
<dz:Image xmlns:dz='http://schemas.microsoft.com/deepzoom/2008' TileSize='510' Overlap='2' Format='png'>
  <dz:Size Height='700' Width='900'/></dz:Image>"""


def test_a_deep_zoom_image_of_another_program_needs_no_tiles(tmp_path: Path) -> None:
    (tmp_path / "x.dzi").write_text(FOREIGN)
    with pytest.raises(UsageError, match="its tiles are missing"):
        open_pyramid(tmp_path / "x.dzi", tmp_path / "cache")
    (tmp_path / "x_files" / "10").mkdir(parents=True)
    (tmp_path / "x_files" / "10" / "1_0.png").write_bytes(b"tile")
    found, thread = open_pyramid(tmp_path / "x.dzi", tmp_path / "cache")
    assert thread is None
    assert (str(found.size), found.tile_px, found.overlap_px, found.ending) == ("900x700", 510, 2, "png")
    assert found.tile((10, 1, 0)) == b"tile"


@pytest.mark.parametrize(
    "text", ["", "hello", FOREIGN.replace("700", "../.."), FOREIGN.replace("png", "exe"), FOREIGN.replace("510", "0")]
)
def test_a_broken_deep_zoom_image_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.dzi").write_text(text)
    with pytest.raises(UsageError, match=r"is not a deep zoom image"):
        open_pyramid(tmp_path / "x.dzi", tmp_path / "cache")
