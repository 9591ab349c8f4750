"""Stars: a closer view of the sky shows fainter ones."""

import random

import torch

from linfusion_cli.landscapes.frame import View
from linfusion_cli.landscapes.render import render
from linfusion_cli.landscapes.scene import (
    Scene,
    sample_scene,
)


def scenes(count: int, seed: int = 0, aspect: float = 1.0):
    rng = random.Random(seed)
    return [sample_scene(rng, aspect) for _ in range(count)]


def detail(scene: Scene, top: float) -> tuple[float, float]:
    """Mean change between neighbouring pixels of a 16-fold window, and of the same part of the whole enlarged."""
    view = View(0.45, top, 1 / 16)
    near = render([scene], 256, 256, [view])
    whole = render([scene], 256, 256)
    left, up = round(0.45 * 4096), round(top * 4096)
    (x, x_more), (y, y_more) = (
        divmod(place - 4 * 16, 16) for place in (left, up)
    )  # with more around it than the filter reads
    enlarged = torch.nn.functional.interpolate(whole[:, :, y : y + 25, x : x + 25], scale_factor=16.0, mode="bicubic")
    crop = enlarged[:, :, 64 + y_more : 320 + y_more, 64 + x_more : 320 + x_more]
    first, second = (float(part.diff(dim=3).abs().mean() + part.diff(dim=2).abs().mean()) for part in (near, crop))
    return first, second


def test_a_close_view_of_the_sky_shows_fainter_stars() -> None:
    scene = next(scene for scene in scenes(200) if scene.stars and scene.body == "none")
    near, enlarged = detail(scene, 0.05)
    assert near > 2 * enlarged
