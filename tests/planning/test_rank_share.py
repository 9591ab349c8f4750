"""What a rank's plan counts of an image's activations, against what its store holds; and that more ranks need less."""

from dataclasses import replace
from pathlib import Path

import pytest
from lone_rank import stored_peaks
from tiny import shape_of

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Size
from linfusion_cli.planning import planner
from linfusion_cli.planning.memory_budget import CostCounter, Keep, StoreBudget
from linfusion_cli.planning.model_shapes import VaeShape
from linfusion_cli.planning.planner import Plan, make_plan
from linfusion_cli.planning.rank_share import for_ranks, halves, unet_share, vae_share
from linfusion_cli.planning.unet_cost import unet_cost
from linfusion_cli.planning.vae_cost import vae_cost
from linfusion_cli.system.device import find_machine

pytestmark = pytest.mark.slow  # all of them together

HEIGHT, WIDTH = 62, 5
VAE = VaeShape((8, 12, 16), 1, True, 0)
KEEP: tuple[Keep, ...] = ("sums", "all", "all")
MACHINE = replace(find_machine("cpu"), free_bytes=64 * 10**9, ram_bytes=64 * 10**9, slowdown=1.0)


def plan_of(ranks: int, **options: object) -> Plan:
    request = Request(prompt="a lake", output=Path("x.png"), device="cpu", seed=1, **options)  # type: ignore[arg-type]
    return make_plan(resolve(request), MACHINE, ranks=ranks)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_busiest_rank_stores_what_is_planned(size: int) -> None:
    of_unet, of_vae = stored_peaks(size, HEIGHT, WIDTH, KEEP)
    stage = plan_of(1, size="512x512").stages[0]
    latent = Size(8 * WIDTH, 8 * HEIGHT)
    stage = replace(stage, size=latent, canvas=latent, guided_steps=0, bands=replace(stage.bands, keep=KEEP))
    unet = shape_of("sd15")
    share = unet_share(stage, unet, size, 1).share
    planned = unet_cost(unet, Size(WIDTH, HEIGHT), 4, 1, StoreBudget.unlimited(), 8, linear=True, share=share)
    assert of_unet == pytest.approx(planned.peak_bytes["device"], rel=0.05)
    counter = CostCounter(StoreBudget.unlimited(), 8, vae_share(stage, VAE, 4, size, 100).share)
    vae_cost(VAE, Size(4 * WIDTH, 4 * HEIGHT), 8, KEEP, 100, counter, encode=False)
    assert of_vae == pytest.approx(counter.peak_bytes["device"], rel=0.05)


def test_more_ranks_need_less_memory_each_and_as_much_time_on_one_machine() -> None:
    alone, *several = (plan_of(count, size="4096x4096", preset="sd15-4k") for count in (1, 2, 3, 4, 8))
    peaks = [plan.peak_bytes for plan in several]
    assert peaks == sorted(peaks, reverse=True)
    assert several[0].peak_bytes < alone.peak_bytes
    assert [plan.ranks for plan in several] == [2, 3, 4, 8]
    for plan in several:
        assert all(stage.bands.unet_latent for stage in plan.stages[1:])
        assert (plan.stages[0].bands.unet_latent == 0) == (plan.ranks == 2)  # each rank computes whole predictions
        assert plan.seconds == pytest.approx(alone.seconds, rel=0.3)


def test_guidance_in_halves_leaves_each_half_the_whole_image() -> None:
    stage = plan_of(1, size="2048x2048", preset="sd15-4k").stages[-1]
    shape = shape_of("sd15")
    guided = replace(stage, guided_steps=stage.steps)
    assert [halves(guided, count) for count in (2, 3, 4)] == [2, 1, 2]
    assert halves(replace(stage, guided_steps=stage.steps - 1), 2) == 1
    assert unet_share(guided, shape, 2, 1).share == 1.0
    assert unet_share(guided, shape, 4, 1).share == 0.5


def test_two_ranks_leave_a_small_stage_whole_where_any_step_is_guided() -> None:
    stage = replace(plan_of(1, size="512x512", preset="sd15-4k").stages[0], steps=10)
    assert stage.bands.unet_latent == 0
    found = [halves(replace(stage, guided_steps=guided), 2) for guided in (0, 1, 9, 10)]
    assert found == [1, 2, 2, 2]
    assert for_ranks(replace(stage, guided_steps=1), 2).bands.unet_latent == 0
    assert for_ranks(replace(stage, guided_steps=0), 2).bands.unet_latent == 32
    assert halves(replace(stage, guided_steps=6), 4) == 1
    assert halves(replace(stage, steps=0, guided_steps=0), 2) == 1


def test_softmax_and_dilation_fetch_more() -> None:
    stage = replace(plan_of(1, size="2048x2048").stages[-1], guided_steps=0, attention="linear")
    shape = shape_of("sd15")
    near, far = (unet_share(stage, shape, 3, dilation).fetched_values for dilation in (1, 8))
    every = unet_share(replace(stage, attention="softmax"), shape, 3, 1).fetched_values
    assert near < far < every


def test_a_unet_that_has_no_bands_is_refused_by_several(monkeypatch: pytest.MonkeyPatch) -> None:
    known = planner._architecture

    def unusual(*given: object) -> object:
        found = known(*given)  # type: ignore[arg-type]
        return replace(found, unet=replace(found.unet, bandable=False))

    monkeypatch.setattr(planner, "_architecture", unusual)
    with pytest.raises(UsageError, match=r"ranks 3: this UNet has blocks that can't run in bands.*Nearest: 1"):
        plan_of(3, size="512x512")
    plan_of(1, size="512x512")
