"""Scenes for the tests of the built-in model's world, and how much detail a close view of one holds."""

import random
from collections.abc import Sequence
from dataclasses import replace

import torch

from linfusion_cli.landscapes.frame import Frame, View, make_frame
from linfusion_cli.landscapes.render import render
from linfusion_cli.landscapes.scene import Scene, sample_scene

PLAIN = Scene(
    time="noon",
    terrain="hills",
    tint="green",
    body="none",
    lake=False,
    fog=False,
    snow=False,
    stars=False,
    layers=3,
    aspect=1.0,
    seed=11,
)


def scene(**attributes: object) -> Scene:
    """Green hills at noon with nothing else, but for these attributes."""
    return replace(PLAIN, **attributes)  # type: ignore[arg-type]


def scenes(count: int, seed: int = 0, aspect: float = 1.0) -> list[Scene]:
    rng = random.Random(seed)
    return [sample_scene(rng, aspect) for _ in range(count)]


def frame_of(chosen: Sequence[Scene], size: int = 32, view: View = View()) -> Frame:  # noqa: B008
    """The frame of scenes as square images of `size` pixels."""
    return make_frame(chosen, size, size, [view] * len(chosen), torch.device("cpu"))


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
