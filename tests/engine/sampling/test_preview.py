"""Previews: what a preview shows, how often one is made, and that nothing of the image changes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.engine.pipeline import images
from linfusion_cli.engine.sampling.clean_prediction import CleanPrediction
from linfusion_cli.engine.sampling.preview import LONG_SIDE_PX, Previews, preview_of
from linfusion_cli.events import Event, PreviewMade
from linfusion_cli.geometry import Size
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.render_plan import PreviewSettings
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.families import BUILTIN_COLORS, FAMILY_ROWS, LatentToRgb

GRAY = LatentToRgb(((1.0, 1.0, 1.0),) + ((0.0, 0.0, 0.0),) * 3)
CLEAN = CleanPrediction("sample", 0.5, 0.5)  # the prediction is x0 itself


def plan_of(preset: Path, **more: Any) -> Plan:
    asked = Request(prompt="a lake", preset=str(preset), seed=3, output=Path("x.png"), device="cpu")
    return make_plan(resolve(replace(asked, **more)), find_machine("cpu"))


def made(plan: Plan) -> tuple[list[PreviewMade], list[np.ndarray[Any, Any]]]:
    """The previews of a run, and the final image's rows."""
    told: list[Event] = []
    rows = [piece for image in images(plan, told.append) for piece in image.rows if image.final]
    return [event for event in told if isinstance(event, PreviewMade)], rows


@pytest.mark.slow
def test_every_step_of_every_stage_is_shown_and_no_pixel_changes(tiny_preset: Path) -> None:
    plain, plan = plan_of(tiny_preset), plan_of(tiny_preset, preview=Path("-"), preview_every=1)
    none, before = made(plain)
    previews, after = made(plan)
    assert none == []
    expected = [(stage.index, step + 1, stage.steps) for stage in plan.stages for step in range(stage.steps)]
    assert [(each.stage, each.done, each.total) for each in previews] == expected
    assert [(each.width, each.height) for each in (previews[0], previews[-1])] == [(8, 8), (16, 16)]
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))
    assert previews[0].rgb != previews[-1].rgb


@pytest.mark.slow
def test_one_of_n_is_shown_and_the_last(tiny_preset: Path) -> None:
    previews, _ = made(plan_of(tiny_preset, preview=Path("-"), preview_every=4))
    assert [each.done for each in previews if each.stage == 0] == [4, 6]


@settings(max_examples=40, deadline=None)
@given(
    kind=st.sampled_from(["epsilon", "v_prediction", "sample"]),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_a_preview_shows_x0_in_the_family_s_colours(kind: str, height: int, width: int, seed: int) -> None:
    torch.manual_seed(seed)
    latents, prediction = torch.randn(1, 4, height, width), torch.randn(1, 4, height, width)
    clean, colors = CleanPrediction(kind, 0.8, 0.6), BUILTIN_COLORS
    shown = preview_of(prediction, latents, clean, colors, Size(width, height))
    x0 = clean.clean(prediction, latents)[0]
    factors, bias = torch.tensor(colors.factors), torch.tensor(colors.bias)
    expected = ((torch.einsum("chw,cr->hwr", x0, factors) + bias) * 127.5 + 127.5).clamp(0, 255)
    assert shown.shape == (height, width, 3)
    assert (shown - expected.floor()).abs().max() <= 1


@pytest.mark.parametrize("sides", [(1, 1), (1024, 3), (1025, 8), (2048, 1080), (5, 3000)])
def test_large_latents_are_shrunk_by_their_means(sides: tuple[int, int]) -> None:
    latents = torch.zeros(1, 4, *sides)
    latents[:, 0, :, ::2] = 0.5
    shown = preview_of(latents, latents, CLEAN, GRAY, Size(sides[1], sides[0]))
    factor = -(-max(sides) // LONG_SIDE_PX)
    assert shown.shape == (-(-sides[0] // factor), -(-sides[1] // factor), 3)
    if sides == (2048, 1080):
        assert shown.shape[:2] == (1024, 540)
        assert set(shown.flatten().tolist()) == {int(0.25 * 127.5 + 127.5)}


@pytest.mark.parametrize("margin", [0, 2])
def test_what_the_canvas_has_beyond_the_image_is_cut_off(margin: int) -> None:
    latents = torch.full((1, 4, 12, 14), 1.0)
    latents[:, :, margin : margin + 8, margin : margin + 10] = 0.0
    shown = preview_of(latents, latents, CLEAN, GRAY, Size(10, 8), margin)
    assert shown.shape == (8, 10, 3)
    assert set(shown.flatten().tolist()) == {127}


def test_nan_is_no_colour_and_no_failure() -> None:
    latents = torch.full((1, 4, 2, 2), float("nan"))
    assert preview_of(latents, latents, CLEAN, GRAY, Size(2, 2)).tolist() == [[[0] * 3] * 2] * 2


def test_without_a_number_previews_take_a_hundredth_of_the_time() -> None:
    """A clock on which a step takes 1 s and a preview 0.1 s."""
    clock, shown = [0.0], []

    def notify(event: Event) -> None:
        clock[0] += 0.1
        shown.append(event)

    stage = cast("Stage", type("AStage", (), {"index": 0, "margin_px": 0, "size": Size(16, 16)}))
    previews = Previews(PreviewSettings(colors=GRAY, every=0), stage, 100, notify, lambda: clock[0])
    latents = torch.zeros(1, 4, 2, 2)
    for index in range(95):
        previews(index, latents, latents, CLEAN)
        clock[0] += 1.0
    assert [event.done for event in shown if isinstance(event, PreviewMade)] == [1, *range(11, 95, 10)]


def test_each_family_has_colours_for_its_four_channels() -> None:
    for colors in [BUILTIN_COLORS, *(row.colors for row in FAMILY_ROWS.values())]:
        assert [len(factors) for factors in colors.factors] == [3] * 4
