"""The progressive upscale equals the official one step by step, and keeps its own promises beyond it."""

from pathlib import Path
from typing import Any

import naive
import pytest
import torch
from diffusers import DDIMScheduler
from golden import golden_unet, load_golden, part
from torch import Tensor

from linfusion_cli.config.schedulers import SCHEDULERS, missing_package
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.sampling.band_guidance import Guidance
from linfusion_cli.engine.sampling.denoiser import Conditioning, Denoiser
from linfusion_cli.engine.sampling.progressive_upscale import (
    Clock,
    UpscaleInputs,
    base,
    blended,
    lowpass,
    match_statistics,
    upscale,
)
from linfusion_cli.engine.sampling.schedulers import make_scheduler
from linfusion_cli.engine.streaming.banded_unet import PlainUNet
from linfusion_cli.geometry import Size
from linfusion_cli.planning.render_plan import SamplerSettings, UpscaleRecipe
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.planning.upscale_schedule import steps_run

OFFICIAL = UpscaleRecipe(lowpass_sigma=0.8, dilated_cutoff=0.0, lowpass_padding="zeros")


class Official:
    """The recorded run of the official pipeline, and our models made from its weights."""

    def __init__(self, path: Path) -> None:
        self.tensors, self.config = load_golden(path)
        self.params = self.config["params"]
        unet = golden_unet(self.tensors, self.config)
        linfusion = LinFusion.like(unet, mid_dim_scale=16)
        linfusion.load_state_dict(part(self.tensors, "linfusion."), "golden")
        linfusion.mount(unet)
        text = Conditioning(
            *(self.tensors[name] for name in ("prompt_embeds", "negative_prompt_embeds", "pooled", "negative_pooled"))
        )
        size = Size(self.params["width"], self.params["height"])
        self.unet = unet
        scale = self.params["guidance_scale"]
        sampler = SamplerSettings(
            scheduler=SchedulerChoice.of("ddim"),
            steps=self.params["num_inference_steps"],
            guidance_scale=scale,
            guidance_interval=(0.0, 1.0),
            guidance_low=scale,
            guidance_high=scale,
        )
        self.denoiser = Denoiser(PlainUNet(unet), text, sampler, Guidance(scale, scale), 1000, size)

    def clock(self, strength: float) -> Clock:
        return Clock.start(DDIMScheduler(**self.config["scheduler"]), self.params["num_inference_steps"], strength)


@pytest.fixture(scope="module")
def official(data: Path) -> Official:
    return Official(data / "highres_sdxl.safetensors")


def no_step(done: int, latents: torch.Tensor) -> None:
    assert done > 0


@pytest.mark.slow
def test_base_stage_equals_the_official_run(official: Official) -> None:
    latents = base(official.denoiser, official.clock(1.0), official.tensors["step000.in"], (0,), no_step)
    assert torch.allclose(latents, official.tensors["stage0.final_latents"], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "first_step", "strength"), [(1, 20, 0.5), (2, 40, 0.25)])
def test_every_step_of_a_stage_equals_the_official_run(
    official: Official, stage: int, first_step: int, strength: float
) -> None:
    """Local, dilated and blended results of each recorded step; the official code steps twice and blends after."""
    tensors, clock = official.tensors, official.clock(strength)
    for index, timestep in enumerate(clock.timesteps):
        local, dilated = (f"step{first_step + 2 * index + branch:03d}" for branch in (0, 1))
        latents = tensors[f"{local}.in"]
        steps = [
            clock.step(p, index, latents, (0,), stage) for p in _branches(official, clock, latents, timestep, 2**stage)
        ]
        assert torch.allclose(steps[0], tensors[f"{local}.out"], atol=1e-4)
        assert torch.allclose(steps[1], tensors[f"{dilated}.out"], atol=1e-4)
        ours = clock.step(
            blended(official.denoiser, clock, latents, timestep, 2**stage, OFFICIAL), index, latents, (0,), stage
        )
        weight = clock.cosine(timestep)
        assert torch.allclose(
            ours, (1 - weight) * tensors[f"{local}.out"] + weight * tensors[f"{dilated}.out"], atol=1e-4
        )


def _branches(official: Official, clock: Clock, latents: Tensor, timestep: Tensor, ratio: int) -> tuple[Tensor, Tensor]:
    sigma = OFFICIAL.lowpass_sigma * (0.99 * clock.cosine(timestep) + 0.01)
    smooth = match_statistics(lowpass(latents, sigma, ratio, "zeros"), latents)
    return official.denoiser(latents, timestep, 1), official.denoiser(smooth, timestep, ratio)


@pytest.mark.slow
@pytest.mark.parametrize(("stage", "strength"), [(1, 0.5), (2, 0.25)])
def test_a_whole_stage_equals_the_official_run(official: Official, stage: int, strength: float) -> None:
    tensors = official.tensors
    start, noise, anchor = (
        tensors[f"stage{stage}.z0"],
        tensors[f"randn_like{stage - 1}"],
        tensors["stage0.final_latents"],
    )
    inputs = UpscaleInputs(
        stage=stage, dilation=2**stage, start=start, noise=noise, anchor=anchor, seed=0, recipe=OFFICIAL
    )
    latents = upscale(official.denoiser, official.clock(strength), inputs, no_step)
    assert torch.allclose(latents, tensors[f"stage{stage}.final_latents"], atol=1e-4)


def test_the_cutoff_differs_by_no_more_than_its_weight(official: Official) -> None:
    """Design 3: below the cut-off the dilated branch is not run; the prediction moves by at most that weight."""
    clock, latents = official.clock(0.25), torch.randn(1, 4, 16, 8)
    calls: list[int] = []

    def counting(z: Tensor, t: Tensor, dilation: int) -> Tensor:
        calls.append(dilation)
        return official.denoiser(z, t, dilation)

    timestep = clock.timesteps[0]
    weight = clock.cosine(timestep)
    with_branch = blended(counting, clock, latents, timestep, 4, OFFICIAL)
    without = blended(counting, clock, latents, timestep, 4, UpscaleRecipe(dilated_cutoff=weight + 1e-6))
    assert calls == [1, 4, 1]
    smooth = match_statistics(lowpass(latents, 0.8 * (0.99 * weight + 0.01), 4, "zeros"), latents)
    spread = (official.denoiser(smooth, timestep, 4) - without).abs().max()
    assert (with_branch - without).abs().max() <= weight * spread + 1e-6


def test_dilation_equals_changed_modules_and_changes_none(official: Official) -> None:
    latents, timestep = torch.randn(1, 4, 16, 8), torch.tensor(300)
    printed = repr(official.unet)
    ours = official.denoiser(latents, timestep, 3)
    assert repr(official.unet) == printed
    fresh = Official(Path(__file__).parents[2] / "data" / "highres_sdxl.safetensors")
    naive.dilate_in_place(fresh.unet, 3)
    assert torch.allclose(ours, fresh.denoiser(latents, timestep, 1), atol=1e-6)


def test_an_exception_leaves_no_dilation_behind(official: Official) -> None:
    latents, timestep = torch.randn(1, 4, 8, 8), torch.tensor(300)
    before = official.denoiser(latents, timestep, 1)
    with pytest.raises(RuntimeError):
        official.denoiser(torch.randn(1, 3, 8, 8), timestep, 4)
    assert torch.equal(official.denoiser(latents, timestep, 1), before)


def test_lowpass_equals_the_square_kernel() -> None:
    latents = torch.randn(1, 4, 12, 9)
    for ratio, sigma in ((2, 0.8), (4, 1.3)):
        assert torch.allclose(
            lowpass(latents, sigma, ratio, "zeros"), naive.gaussian_blur(latents, sigma, ratio), atol=1e-6
        )
        flat = torch.full((1, 4, 12, 9), 2.0)
        assert torch.allclose(lowpass(flat, sigma, ratio, "reflect"), flat, atol=1e-5)  # no dark rim


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in sorted(SCHEDULERS) if not missing_package(name, "normal")])
def test_any_scheduler_recovers_the_start_when_the_prediction_is_right(name: str) -> None:
    """A denoiser that knows the truth must lead every scheduler back to z0, at any strength."""
    config: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    clock = Clock.start(make_scheduler(SchedulerChoice.of(name), config), 20, 0.4)
    torch.manual_seed(0)
    start, noise = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    alphas = DDIMScheduler(**config).alphas_cumprod

    def truth(z: Tensor, t: Tensor, dilation: int) -> Tensor:
        signal = alphas[int(t)].sqrt()
        amount = (1 - alphas[int(t)]).sqrt()
        return (z - signal * start) / amount

    recipe = UpscaleRecipe(match_statistics=False, dilated_cutoff=1.0)
    inputs = UpscaleInputs(stage=1, dilation=2, start=start, noise=noise, anchor=start, seed=1, recipe=recipe)
    result = upscale(truth, clock, inputs, no_step)
    assert (result - start).abs().mean() < 0.1


def test_steps_of_a_stage_are_rounded_up_but_not_by_float_dust() -> None:
    assert [steps_run(50, s) for s in (0.32, 0.24000001, 0.16, 0.0800001, 0.001, 1.0)] == [16, 12, 8, 4, 1, 50]


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in SCHEDULERS if not missing_package(name, "normal")])
def test_a_stage_that_ends_early_returns_the_clean_latents_of_its_last_prediction(name: str) -> None:
    """Beside it the same steps one by one, and x0 = (x - noise eps) / signal of the last prediction."""
    noise = torch.randn(1, 4, 6, 6, generator=torch.Generator().manual_seed(1))

    def clock(predictions: int | None) -> Clock:
        return Clock.start(make_scheduler(SchedulerChoice.of(name), DDIMScheduler().config), 8, 1.0, predictions)

    def denoise(latents: Tensor, timestep: Tensor, dilation: int) -> Tensor:
        return 0.3 * latents + 0.1

    early, whole = clock(5), clock(None)
    latents = whole.first(noise)
    for index in range(4):
        timestep = whole.timesteps[index]
        latents = whole.step(denoise(whole.scheduler.scale(latents, timestep), timestep, 1), index, latents, (7,), 0)
    prediction = denoise(whole.scheduler.scale(latents, whole.timesteps[4]), whole.timesteps[4], 1)
    signal, amount = whole.levels[4]
    steps: list[int] = []
    ended = base(denoise, early, early.first(noise), (7,), lambda done, _: steps.append(done))
    assert steps == [1, 2, 3, 4, 5]
    assert torch.allclose(ended, (latents - amount * prediction) / signal, atol=1e-5)
