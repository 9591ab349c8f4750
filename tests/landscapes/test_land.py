"""Ridges: as many as a scene has, the nearer the lower, with snow, fog and trees where the scene says so."""

import pytest
import torch
from landscape_scenes import frame_of, scene
from torch import Tensor

from linfusion_cli.landscapes.frame import View
from linfusion_cli.landscapes.land import FOLDS, RIDGE, paint_layer
from linfusion_cli.landscapes.scene import Scene
from linfusion_cli.models.landscape_words import TERRAINS

LOOKS = list(TERRAINS)


def layer(one: Scene, index: int = 0, size: int = 64, view: View = View()) -> tuple[Tensor, Tensor]:  # noqa: B008
    """How much of each pixel a layer alone covers, (size, size), and its light there, (3, size, size)."""
    frame = frame_of([one], size, view)
    on_black, on_white = (paint_layer(torch.full((1, 3, size, size), ground), frame, index)[0] for ground in (0.0, 1.0))
    return (1 - (on_white - on_black)).mean(0), on_black


def test_every_terrain_has_ridges_and_folds() -> None:
    assert set(RIDGE) == set(FOLDS) == set(TERRAINS)


@pytest.mark.parametrize("terrain", LOOKS)
def test_a_layer_covers_what_is_below_its_skyline(terrain: str) -> None:
    cover, light = layer(scene(terrain=terrain))
    assert cover.min() > -1e-5
    assert cover.max() < 1 + 1e-5
    assert 0 < cover.mean() < 0.9
    assert not cover[0].any(), "the top of a scene is sky"
    assert light.min() > -0.1
    assert light.max() < 1.3  # render() clamps the light on ledges
    if terrain not in ("forest", "islands"):  # trees have sky between them, and islands end at the water
        assert (cover.diff(dim=0) >= -1e-5).all()


@pytest.mark.slow
@pytest.mark.parametrize("terrain", [name for name in LOOKS if name != "islands"])
def test_nearer_layers_begin_lower(terrain: str) -> None:
    """On the whole: a hill of one layer may stand above a valley of the one behind it."""
    seeds = range(8)
    heights = [
        sum(float(layer(scene(terrain=terrain, layers=4, seed=seed), index, 32)[0].mean()) for seed in seeds)
        for index in range(4)
    ]
    assert heights == sorted(heights, reverse=True)


def test_islands_end_at_the_water() -> None:
    cover, _ = layer(scene(terrain="islands", layers=2))
    assert cover.max() > 0.9
    assert not cover[-16:].any()


def test_scenes_without_so_many_layers_stay_as_they_are() -> None:
    few, many = scene(layers=2), scene(layers=4, seed=3)
    together = paint_layer(torch.zeros(2, 3, 32, 32), frame_of([few, many], 32), 3)
    assert (together[0] == 0).all()
    assert torch.equal(together[1], layer(many, 3, 32)[1])
    assert (layer(few, 2, 32)[0] == 0).all()


@pytest.mark.parametrize("terrain", ["mountains", "hills"])
def test_snow_whitens_the_ridge_and_leaves_the_rest(terrain: str) -> None:
    (cover, bare), (snowy_cover, snowy) = (layer(scene(terrain=terrain, snow=snow)) for snow in (False, True))
    assert torch.allclose(cover, snowy_cover, atol=1e-5)
    whiter = (snowy - bare).amin(0)
    ridge = torch.stack([whiter[row, column] for column, row in enumerate((cover > 0.99).long().argmax(0).tolist())])
    assert ridge.mean() > 0.1
    assert torch.equal(bare[:, -4:], snowy[:, -4:])


def test_fog_thickens_downwards_towards_the_colour_of_the_horizon() -> None:
    clear = scene(terrain="mountains")
    low = frame_of([clear], 64).low[0]
    cover, bare = layer(clear)
    _, foggy = layer(scene(terrain="mountains", fog=True))
    land = cover > 0.99
    closer = torch.where(land, (bare - low).abs().mean(0) - (foggy - low).abs().mean(0), 0.0)
    assert closer.min() > -0.05
    ridge = int(land.any(1).long().argmax())
    assert closer[-8:].mean() > 2 * closer[ridge : ridge + 8].mean()


def test_groups_of_trees_on_a_ridge_show_from_near_only() -> None:
    """There is sky below a branch, and none below a skyline without trees."""
    hills = scene(terrain="hills", layers=2, seed=8)
    whole, _ = layer(hills, size=128)
    assert (whole.diff(dim=0) >= -1e-5).all()
    top = int((whole[:, 64] > 0.5).long().argmax()) / 128
    near, _ = layer(hills, size=128, view=View(0.42, top - 0.06, 0.12))
    assert near.diff(dim=0).min() < -0.5
