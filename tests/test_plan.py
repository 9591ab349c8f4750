"""The plan: stages and steps as the recipe says, costs that follow the sizes, refusals with a number."""

import re
from pathlib import Path

import pytest

from linfusion_cli.architecture import FAMILIES, unet_cost, vae_cost
from linfusion_cli.errors import OutOfMemoryError
from linfusion_cli.geometry import Size
from linfusion_cli.job import Job, Request, resolve
from linfusion_cli.machine import Machine
from linfusion_cli.plan import make_plan

LAPTOP = Machine(device="cpu", device_name="test", reason="test", total_bytes=24 * 10**9, free_bytes=20 * 10**9, cores=2)


def job(size: str, preset: str = "landscape", **changes: object) -> Job:
    return resolve(Request(prompt="a lake", preset=preset, size=size, seed=1, output=Path("x.png"), **changes))  # type: ignore[arg-type]


def test_stages_follow_the_papers_recipe() -> None:
    """SD-XL, 50 steps, strength 0.32 falling linearly: 16, 12, 8 and 4 steps."""
    plan = make_plan(job("16384x8192", "sdxl-16k"), Machine(device="cuda:0", device_name="t", reason="t", total_bytes=10**12, free_bytes=10**12, cores=8))
    assert [stage.steps for stage in plan.stages] == [50, 16, 12, 8, 4]
    assert plan.stages[-1].size == Size(16384, 8192)
    assert plan.stages[-1].dilated_steps == 0  # its weight is below the cut-off
    assert plan.stages[1].dilated_steps > 0
    assert plan.dtype == "float16"


def test_guidance_acts_in_its_interval_only() -> None:
    plan = make_plan(job("1024x1024"), LAPTOP)
    assert plan.stages[0].guided_steps == 14  # of 25, down to t = 0.45 T
    assert [stage.guided_steps for stage in plan.stages[1:]] == [0, 0, 0]


def test_no_guidance_means_no_guided_steps() -> None:
    assert make_plan(job("512x512", guidance=1.0), LAPTOP).stages[0].guided_steps == 0


def test_linear_attention_costs_by_area_and_softmax_by_its_square() -> None:
    shape = FAMILIES["sd15"].unet
    small, large = Size(256, 256), Size(512, 512)
    linear = unet_cost(shape, large, 0, linear=True).macs / unet_cost(shape, small, 0, linear=True).macs
    softmax = unet_cost(shape, large, 0, linear=False).macs / unet_cost(shape, small, 0, linear=False).macs
    assert 3.95 < linear < 4.05
    assert softmax > 10


def test_the_arithmetic_knows_the_real_models() -> None:
    """Published sizes: one SD-v1.5 pass at 512x512 is about 0.34 T multiply-adds, SD-XL at 1024x1024 about 3."""
    assert 0.30e12 < unet_cost(FAMILIES["sd15"].unet, Size(64, 64), 0, linear=False).macs < 0.45e12
    assert 2.4e12 < unet_cost(FAMILIES["sdxl"].unet, Size(128, 128), 0, linear=False).macs < 3.6e12
    assert 1.0e12 < vae_cost(FAMILIES["sd15"].vae, Size(512, 512), 64, encode=False).macs < 2.6e12


def test_phases_of_a_pixel_upscale_and_of_a_latent_one() -> None:
    names = [(phase.name, phase.stage) for phase in make_plan(job("256x256"), LAPTOP).phases]
    assert names == [("load", 0), ("denoise", 0), ("decode", 0), ("encode", 1), ("denoise", 1), ("decode", 1)]


def test_memory_and_time_grow_with_the_picture() -> None:
    plans = [make_plan(job(size), LAPTOP) for size in ("512x512", "2048x2048", "8192x8192")]
    assert plans[0].peak_bytes < plans[1].peak_bytes < plans[2].peak_bytes
    assert plans[0].seconds < plans[1].seconds < plans[2].seconds


def test_what_can_not_fit_is_refused_with_the_smallest_budget_that_would() -> None:
    with pytest.raises(OutOfMemoryError, match=r"131072x65536 needs about .* GB.*cpu has 20\.0 GB free") as refused:
        make_plan(job("131072x65536"), LAPTOP)
    fitting = re.search(r"\((\d+x\d+) fits\)", str(refused.value))
    assert fitting
    assert make_plan(job(fitting[1]), LAPTOP).peak_bytes <= LAPTOP.free_bytes
    with pytest.raises(OutOfMemoryError, match=r"--max-memory allows 0\.8 GB") as refused:
        make_plan(job("4096x4096", max_memory="800MB"), LAPTOP)
    nearest = re.search(r"Nearest: --max-memory (\S+),", str(refused.value))
    assert nearest
    plan = make_plan(job("4096x4096", max_memory=nearest[1]), LAPTOP)
    assert plan.peak_bytes <= plan.budget_bytes


def test_a_budget_that_no_size_keeps_says_so() -> None:
    with pytest.raises(OutOfMemoryError, match="no size fits"):
        make_plan(job("4096x4096", max_memory="100MB"), LAPTOP)


def test_a_tight_budget_takes_lower_bands() -> None:
    wide = make_plan(job("4096x4096"), LAPTOP)
    tight = make_plan(job("4096x4096", max_memory=f"{wide.peak_bytes * 0.999 / 1e9:.4f}GB"), LAPTOP)
    assert tight.stages[-1].bands.vae_px < wide.stages[-1].bands.vae_px
    assert tight.stages[-1].bands.unet_latent < wide.stages[-1].bands.unet_latent


def test_softmax_attention_has_no_bands_and_needs_more() -> None:
    linear, softmax = make_plan(job("2048x2048"), LAPTOP), make_plan(job("2048x2048", attention="softmax"), LAPTOP)
    assert softmax.stages[-1].bands.unet_latent == 0 < linear.stages[-1].bands.unet_latent
    denoising = [max(phase.peak_bytes for phase in plan.phases if phase.name == "denoise") for plan in (linear, softmax)]
    assert denoising[0] < denoising[1]
    assert softmax.seconds > linear.seconds


def test_the_plan_speaks_json() -> None:
    import json

    told = json.loads(json.dumps(make_plan(job("1024x512"), LAPTOP).as_dict()))
    assert told["size"] == "1024x512"
    assert told["stages"][0]["size"] == "184x88"
