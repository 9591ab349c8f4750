"""A scene is the same in every batch, at every size and in every window, and a close view shows more of it."""

import random

import pytest
import torch
from landscape_scenes import detail, scenes

from linfusion_cli.landscapes.frame import BODY, View, body_place
from linfusion_cli.landscapes.render import random_view, render
from linfusion_cli.models.landscape_words import TERRAINS


def test_images_are_in_range_and_differ() -> None:
    batch = render(scenes(12), 48, 64)
    assert batch.shape == (12, 3, 48, 64)
    assert batch.min() >= 0
    assert batch.max() <= 1
    assert all((batch[i] - batch[j]).abs().mean() > 0.005 for i in range(12) for j in range(i))


def test_a_scene_does_not_depend_on_its_batch() -> None:
    chosen = scenes(8)
    together = render(chosen, 32, 32)
    for index, scene in enumerate(chosen):
        assert torch.allclose(render([scene], 32, 32)[0], together[index], atol=1e-6)


@pytest.mark.slow
def test_sizes_show_the_same_scene() -> None:
    chosen = [scene for scene in scenes(10, seed=5) if not scene.stars]
    large = render(chosen, 256, 256)
    small = render(chosen, 64, 64)
    shrunk = torch.nn.functional.avg_pool2d(large, 4)
    assert (shrunk - small).abs().mean() < 0.01


@pytest.mark.slow
def test_a_window_is_a_part_of_the_whole() -> None:
    chosen = [scene for scene in scenes(10, seed=6) if not scene.stars]
    whole = render(chosen, 256, 256)
    window = render(chosen, 64, 64, [View(0.5, 0.25, 0.25)] * len(chosen))
    assert (whole[:, :, 64:128, 128:192] - window).abs().mean() < 0.002


@pytest.mark.slow
@pytest.mark.parametrize("terrain", list(TERRAINS))
def test_a_close_view_holds_more_than_an_enlargement(terrain: str) -> None:
    chosen = [
        scene
        for scene in scenes(200, seed=8)
        if scene.terrain == terrain and not scene.fog and scene.time in ("morning", "noon")
    ][:4]
    near, enlarged = map(
        sum, zip(*(detail(scene, top) for scene in chosen for top in (0.5, 0.6, 0.7, 0.8)), strict=True)
    )
    assert near > 1.5 * enlarged


def test_suns_are_round_and_stars_visible() -> None:
    scene = next(scene for scene in scenes(200) if scene.body == "sun" and scene.time == "noon")
    _, y, radius = body_place(scene)
    disc = (render([scene], 256, 256)[0] - torch.tensor(BODY["sun"]).view(3, 1, 1)).abs().amax(0) < 0.02
    rows, columns = disc.nonzero().T
    high = y + radius < 0.5
    assert abs(int(columns.max() - columns.min()) + 1 - 512 * radius) <= 2
    assert not high or abs(int(rows.max() - rows.min()) + 1 - 512 * radius) <= 2
    night = next(scene for scene in scenes(200) if scene.stars and scene.body == "none")
    sky = render([night], 128, 128)[0, :, :60].amin(0)
    assert (sky > 0.5).sum() >= 10


def test_windows_stay_inside_the_scene() -> None:
    rng = random.Random(1)
    for scene in scenes(200, aspect=1.8):
        view = random_view(scene, rng)
        assert 1 / 16 <= view.extent <= 1
        assert view.left >= 0
        assert view.left + view.extent <= scene.aspect + 1e-6
        assert 0 <= view.top <= 1 - view.extent + 1e-9
