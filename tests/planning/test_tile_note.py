"""A tile ControlNet of `upscale` is shown the image itself, and the plan says so."""

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.extras import is_tile
from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError
from linfusion_cli.planning.tile_note import is_upscaled, tile_note


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64), (30, 90, 160)).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def job(photo: Path, *nets: str, **given: Any) -> Job:
    return resolve(Request(prompt="x", size="512x512", upscale_image=photo, controlnets=nets, **given))


def test_the_image_is_shown_to_every_tile_controlnet(photo: Path) -> None:
    found = job(photo, "lllyasviel/control_v11f1e_sd15_tile", "me/Tile-sdxl")
    assert [image.path for image in found.control_images] == [photo, photo]
    assert all(is_upscaled(found, image) for image in found.control_images)
    assert "photo.png is the control image of the tile ControlNet" in told(tile_note(found))


def test_the_mode_of_a_union_says_it(photo: Path) -> None:
    assert job(photo, "xinsir/union", control_modes=("tile",)).control_images[0].path == photo
    with pytest.raises(UsageError, match="xinsir/tile-union wants control_images"):
        job(photo, "xinsir/tile-union", control_modes=("canny",))


def test_another_image_of_its_own_comes_first(photo: Path, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "other.png")
    found = job(photo, "x/tile", control_images=(tmp_path / "other.png",))
    assert found.control_images[0].path.name == "other.png"
    assert tile_note(found) == ""


def test_other_controlnets_are_not_shown_it(photo: Path) -> None:
    with pytest.raises(UsageError, match="x/canny wants control_images"):
        job(photo, "x/tile", "x/canny")
    with pytest.raises(UsageError, match="each ControlNet wants one image"):
        resolve(Request(prompt="x", controlnets=("x/tile",)))
    with pytest.raises(UsageError, match="each ControlNet wants one image"):
        resolve(Request(prompt="x", controlnets=("x/tile",), init_image=photo))
    with pytest.raises(UsageError, match="is given 2 times for 1 ControlNets"):
        job(photo, "x/tile", control_scales=(0.5, 0.6))


@pytest.mark.parametrize(
    ("location", "mode", "tile"),
    [
        ("lllyasviel/control_v11f1e_sd15_tile", "none", True),
        ("models/ControlNet/control_v11f1e_sd15_tile.pth", "none", True),
        ("TTPLanet_SDXL_Controlnet_Tile_Realistic.safetensors", "none", True),
        ("/home/tile/nets/canny/x.safetensors", "none", False),
        ("x/reptile", "none", False),
        ("x/textile-net", "none", False),
        ("x/union", "6", True),
        ("x/union", "depth", False),
    ],
)
def test_which_are_tile(location: str, mode: str, tile: bool) -> None:
    assert is_tile(location, mode) == tile
