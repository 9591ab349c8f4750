"""Where pixels lie in their scenes: windows, lakes that mirror, and how close a view must be to show a detail."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscape_scenes import frame_of, scene, scenes

from linfusion_cli.landscapes.frame import BODY, SKY, TINT, View, body_place, edge, make_frame, over, saw
from linfusion_cli.landscapes.scene import BODIES
from linfusion_cli.models.landscape_words import TIMES, TINTS


def test_every_time_tint_and_body_has_its_colours() -> None:
    assert set(SKY) == set(TIMES)
    assert set(TINT) == set(TINTS)
    assert set(BODY) == set(BODIES)


def test_a_pixel_is_at_its_centre() -> None:
    frame = make_frame([scene()], 4, 6, [View()], torch.device("cpu"))
    assert frame.y.flatten().tolist() == pytest.approx([0.125, 0.375, 0.625, 0.875])
    assert frame.x.flatten().tolist() == pytest.approx([(column + 0.5) / 4 for column in range(6)])


@given(st.integers(0, 12), st.integers(0, 12))
@settings(max_examples=20, deadline=None)
def test_a_window_has_the_coordinates_of_its_part_of_the_whole(left: int, top: int) -> None:
    chosen = [scene(lake=True), scene(lake=False, seed=5)]
    whole, window = frame_of(chosen, 16), frame_of(chosen, 4, View(left / 16, top / 16, 4 / 16))
    assert torch.allclose(window.x, whole.x[..., left : left + 4], atol=1e-6)
    assert torch.allclose(window.y, whole.y[:, :, top : top + 4], atol=1e-4)
    assert torch.allclose(window.pixel, whole.pixel)


def test_a_lake_mirrors_what_is_above_its_shore() -> None:
    frame = frame_of([scene(lake=True), scene(lake=False)], 64)
    lake, land = frame.depth[:, 0, :, 0]
    assert (land < 0).all()
    water = lake > 0
    assert water.any()
    assert not water[:40].any()  # the horizon is at 0.55 or lower, and the shore below it
    rows = (torch.arange(64) + 0.5) / 64
    assert torch.equal(frame.y[0, 0, ~water, 0], rows[~water])
    assert (frame.y[0, 0, water, 0] < rows[water]).all()


def test_scenes_are_found_by_attributes_and_selected_with_all_their_tensors() -> None:
    chosen = [scene(time="night"), scene(lake=True), scene(time="dusk"), scene(time="night", lake=True)]
    frame = frame_of(chosen, 8)
    assert frame.where(time="night") == [0, 3]
    assert frame.where(time=("night", "dusk")) == [0, 2, 3]
    assert frame.where(time="night", lake=True) == [3]
    assert frame.where(terrain="islands") == []
    part, alone = frame.select([3, 1]), frame_of([chosen[3], chosen[1]], 8)
    assert part.scenes == alone.scenes
    for name in ("x", "y", "depth", "pixel", "seed", "horizon", "low", "high", "tint", "light", "body", "place"):
        assert torch.equal(getattr(part, name), getattr(alone, name)), name


def test_details_show_from_two_pixels_and_fully_from_four() -> None:
    frame = frame_of([scene()], 100)
    assert [frame.shows(size).item() for size in (0.01, 0.02, 0.03, 0.04, 1.0)] == pytest.approx([0, 0, 0.5, 1, 1])


@pytest.mark.parametrize("aspect", [0.6, 1.0, 1.8])
def test_sun_and_moon_are_in_the_sky_of_their_scene(aspect: float) -> None:
    for one in scenes(100, aspect=aspect):
        x, y, radius = body_place(one)
        assert 0 < x < one.aspect
        assert 0 < y < 0.55  # above every horizon
        assert 0.05 <= radius <= 0.11


def test_an_edge_is_covered_by_the_share_of_the_pixel_inside() -> None:
    pixel = torch.tensor(0.1)
    assert [edge(torch.tensor(inside), pixel).item() for inside in (-0.2, -0.05, 0.0, 0.025, 0.2)] == pytest.approx(
        [0, 0, 0.5, 0.75, 1]
    )


def test_paint_covers_by_its_share() -> None:
    image, colour = torch.zeros(1, 3, 2, 2), torch.tensor([1.0, 0.5, 0.0]).view(1, 3, 1, 1)
    cover = torch.tensor([[0.0, 1.0], [0.5, 0.25]]).view(1, 1, 2, 2)
    assert torch.equal(over(image, colour, cover), colour * cover)


@given(st.floats(-1000, 1000, width=32))
def test_a_saw_repeats(x: float) -> None:
    value = saw(torch.tensor(x)).item()
    assert 0 <= value <= 1
    assert value == pytest.approx(x % 1, abs=1e-3)
