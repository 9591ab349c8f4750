"""Sea below the horizon of islands, lakes below their shore, and ripples that never flicker below a pixel."""

import torch
from landscape_scenes import frame_of, scene

from linfusion_cli.landscapes.frame import View
from linfusion_cli.landscapes.water import paint_lake, paint_sea, ripples


def test_only_islands_have_a_sea_and_it_ends_at_the_horizon() -> None:
    frame = frame_of([scene(terrain="hills"), scene(terrain="islands")], 64)
    hills, islands = paint_sea(torch.full((2, 3, 64, 64), -1.0), frame)
    assert (hills == -1).all()
    horizon = int(frame.horizon[1] * 64)
    assert (islands[:, : horizon - 1] == -1).all()
    assert (islands[:, horizon + 1 :] >= 0).all()


def test_the_sea_glitters_below_the_moon() -> None:
    dark, moonlit = (frame_of([scene(terrain="islands", time="night", body=body)], 64) for body in ("none", "moon"))
    without, glitter = (paint_sea(torch.zeros(1, 3, 64, 64), frame)[0] for frame in (dark, moonlit))
    brighter = (glitter - without).mean((0, 1))
    x = float(moonlit.place[0, 0]) * 64
    assert abs(int(brighter.argmax()) + 0.5 - x) < 8
    assert brighter.min() >= -1e-6


def test_a_lake_covers_its_water_alone_and_keeps_what_it_mirrors() -> None:
    frame = frame_of([scene(lake=False), scene(lake=True)], 64)
    before = torch.zeros(2, 3, 64, 64)
    before[..., :32] = 0.8  # a bright and a dark half are mirrored
    dry, lake = paint_lake(before.clone(), frame)
    assert torch.equal(dry, before[0])
    water = frame.depth[1, 0, :, 0] > 1 / 64
    land = frame.depth[1, 0, :, 0] < -1 / 64
    assert torch.equal(lake[:, land], before[1][:, land])
    assert (lake[:, water] != before[1][:, water]).all()
    assert lake[:, water, :32].mean() > lake[:, water, 32:].mean() + 0.2


def test_ripples_are_crests_between_0_and_1_that_fade_below_a_pixel() -> None:
    near, far = frame_of([scene()], 256, View(0, 0, 0.25)), frame_of([scene()], 8)
    for frame in (near, far):
        depth = frame.y - 0.1
        crests = ripples(frame, depth, frame.seed)
        assert crests.min() >= 0
        assert crests.max() <= 1
    assert ripples(near, near.y, near.seed).max() > 0.5
    assert not ripples(far, torch.zeros_like(far.y), far.seed).any(), "rows at the far shore are finer than a pixel"
