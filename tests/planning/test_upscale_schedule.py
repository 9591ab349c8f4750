"""How many predictions a stage asks for, and bands that never exceed their image."""

from dataclasses import replace
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.geometry import Size
from linfusion_cli.planning.upscale_schedule import (
    LEAST_UNET_ROWS,
    ROUNDING,
    SMALLEST_BAND_PX,
    Stage,
    _bands,
    plan_stages,
    steps_run,
    times,
)

STEPS, STRENGTH = st.integers(1, 200), st.floats(0.001, 1)


@given(steps=STEPS, strength=STRENGTH)
@settings(deadline=None)
def test_the_steps_of_a_strength_are_rounded_up_and_at_least_one(steps: int, strength: float) -> None:
    run = steps_run(steps, strength)
    assert 1 <= run <= steps
    assert run in (ceil(steps * strength), ceil(steps * strength) - 1)


@pytest.mark.parametrize(
    ("steps", "strength", "run"), [(50, 0.32, 16), (50, 0.24, 12), (10, 0.1 + 0.2, 3), (4, 0.01, 1)]
)
def test_a_rounding_error_is_no_step(steps: int, strength: float, run: int) -> None:
    assert steps_run(steps, strength) == run


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@given(steps=STEPS, strength=STRENGTH)
@settings(deadline=None)
def test_times_fall_from_the_strength(scheduler: str, steps: int, strength: float) -> None:
    asked = times(scheduler, steps, strength)
    assert asked[0] == strength
    assert asked == sorted(asked, reverse=True)
    run = steps_run(steps, strength)
    assert len(set(asked)) == (2 * run - 1 if SCHEDULERS[scheduler].asks_twice == "midway" else run)
    assert min(asked) > 0


def test_some_schedulers_ask_twice() -> None:
    assert times("ddim", 4, 1.0) == [1, 0.75, 0.5, 0.25]
    assert times("heun", 3, 0.75) == pytest.approx([0.75, 0.5, 0.5, 0.25, 0.25])
    assert times("dpm2", 2, 1.0) == [1, 0.75, 0.5]
    assert times("pndm", 4, 1.0) == [1, 0.75, 0.75, 0.5, 0.25]


@given(
    width=st.integers(1, 2000).map(lambda n: 8 * n),
    height=st.integers(1, 2000).map(lambda n: 8 * n),
    kind=st.sampled_from(["cpu", "cuda", "mps"]),
    halvings=st.integers(0, 7),
)
@settings(deadline=None)
def test_bands_are_within_their_image(width: int, height: int, kind: str, halvings: int) -> None:
    size = Size(width, height)
    bands = _bands(size, size, kind, halvings, levels=4)
    assert 0 <= bands.unet_latent <= size.latent().height
    assert min(SMALLEST_BAND_PX, height) <= bands.vae_px <= height
    assert bands.keep == ("all",) * 4
    if halvings == 0 and bands.unet_latent:
        assert bands.unet_latent >= min(LEAST_UNET_ROWS, size.latent().height)


def test_a_small_image_on_a_cpu_runs_whole() -> None:
    size = Size(512, 512)
    assert _bands(size, size, "cpu", 0, 4).unet_latent == 0
    assert _bands(size, size, "cuda", 0, 4).unet_latent == 64


def stages_of(scheduler: str, early_end: float) -> tuple[Stage, ...]:
    job = resolve(Request(prompt="a lake", preset="landscape", size="1024x1024", scheduler=scheduler))
    upscale = job.settings.upscale.model_copy(update={"early_end": early_end})
    return plan_stages(replace(job, settings=job.settings.model_copy(update={"upscale": upscale})), "cpu")


@pytest.mark.slow
@pytest.mark.parametrize("scheduler", ["ddim", "heun", "dpm2", "pndm"])
@given(early_end=st.floats(0, 1))
@settings(deadline=None, max_examples=20)
def test_a_stage_ends_early_but_never_with_more_noise_than_the_next_begins_with(
    scheduler: str, early_end: float
) -> None:
    steps = resolve(Request(prompt="a lake", preset="landscape")).settings.sampling.steps
    whole, early = stages_of(scheduler, 0.0), stages_of(scheduler, early_end)
    assert early[-1] == whole[-1], "the last stage runs to its end"
    for stage, full, following in zip(early[:-1], whole[:-1], early[1:], strict=True):
        asked = times(scheduler, steps, full.strength)
        end = min(early_end, following.strength)
        assert stage.ends_early == (stage.steps < full.steps)
        assert asked[stage.steps - 1] <= end + ROUNDING or not stage.ends_early
        assert all(time > end for time in asked[: stage.steps - 1])
        assert stage.guided_steps <= full.guided_steps


def test_a_stage_ends_where_the_next_begins_if_all_may_be_left_out() -> None:
    assert [stage.steps for stage in stages_of("ddim", 1.0)] == [13, 4, 4, 3]
