"""The progressive schedule: a base image, then stages that each start from the one before (DemoFusion, arXiv 2311.16973)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.sampling.latent_checkpoint import Resumed
from linfusion_cli.engine.sampling.noise import generator
from linfusion_cli.engine.sampling.schedulers import Scheduler

Denoise = Callable[[Tensor, Tensor, int], Tensor]  # latents, timestep, dilation -> noise prediction
OnStep = Callable[[int, Tensor], None]  # steps done, latents


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a stage mixes its branches; f below is the cosine factor of a timestep.

    skip_exponent, dilated_exponent: weight of the skip residual f^a1 and of the dilated branch f^a2
    lowpass_exponent, lowpass_sigma: the low-pass before the dilated branch has sigma * (0.99 f^a3 + 0.01) latents
    dilated_cutoff: below this weight the dilated branch is not run (0 = always run)
    lowpass_padding: "reflect" or "zeros" (the official code pads with zeros)
    match_statistics: end with the base's mean and deviation per channel
    """

    skip_exponent: float = 3.0
    dilated_exponent: float = 1.0
    lowpass_exponent: float = 1.0
    lowpass_sigma: float = 1.0
    dilated_cutoff: float = 0.02
    lowpass_padding: str = "reflect"
    match_statistics: bool = True


@dataclass(frozen=True, slots=True)
class Clock:
    """A scheduler set to a number of steps, of which the last `strength` part is run."""

    scheduler: Scheduler

    @staticmethod
    def start(scheduler: object, steps: int, strength: float, device: torch.device) -> Clock:
        """Sets the scheduler; strength 1 runs all steps, 0.25 the last quarter (rounded up)."""
        return Clock(Scheduler.start(scheduler, steps, strength, device))

    @property
    def timesteps(self) -> Tensor:
        return self.scheduler.timesteps

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """Signal and noise of an image noised to each timestep."""
        return self.scheduler.levels

    def first(self, noise: Tensor, start: Tensor | None = None) -> Tensor:
        """What stage 0 begins with: unit noise, or an image's latents noised to the first timestep (SDEdit, arXiv 2108.01073)."""
        if start is None:
            return noise * self.scheduler.initial_sigma
        signal, amount = self.levels[0]
        return signal * start + amount * noise

    def cosine(self, timestep: Tensor) -> float:
        """f = (1 + cos(pi (T - t) / T)) / 2: 1 at full noise, 0 at none."""
        total = self.scheduler.train_timesteps
        return 0.5 * (1 + math.cos(math.pi * (total - float(timestep)) / total))

    def step(self, prediction: Tensor, index: int, latents: Tensor, seeds: Sequence[int], stage: int) -> Tensor:
        """One step of the scheduler; stochastic ones draw noise that depends on an image's seed, stage and step alone.

        seeds: one for each of the batch
        """
        noise = [generator(seed, stage, index + 1) for seed in seeds]
        return self.scheduler.step(prediction, index, latents, noise)


def base(
    denoise: Denoise,
    clock: Clock,
    latents: Tensor,
    seeds: Sequence[int],
    on_step: OnStep,
    resumed: Resumed | None = None,
) -> Tensor:
    """Stage 0: from the noisy latents (batch, channels, height, width) of Clock.first, or the rest of it, where it was interrupted.

    seeds: one for each of the batch
    """
    latents = resumed.latents if resumed else latents
    for index in range(resumed.done if resumed else 0, len(clock.timesteps)):
        timestep = clock.timesteps[index]
        prediction = denoise(clock.scheduler.scale(latents, timestep), timestep, 1)
        latents = clock.step(prediction, index, latents, seeds, 0)
        on_step(index + 1, latents)
    return latents


def upscale(
    denoise: Denoise,
    clock: Clock,
    start: Tensor,
    noise: Tensor,
    anchor: Tensor,
    dilation: int,
    recipe: Recipe,
    seed: int,
    stage: int,
    on_step: OnStep,
    resumed: Resumed | None = None,
) -> Tensor:
    """One later stage, or the rest of it.

    start:    the enlarged image's latents z0; noise: of the same shape; anchor: the base stage's latents
    dilation: how many times larger than the base this stage is
    """
    start = start.contiguous()
    signal, amount = clock.levels[0]
    latents = resumed.latents if resumed else signal * start + amount * noise
    for index in range(resumed.done if resumed else 0, len(clock.timesteps)):
        timestep, (signal, amount) = clock.timesteps[index], clock.levels[index]
        skip = clock.cosine(timestep) ** recipe.skip_exponent
        latents = torch.lerp(latents, signal * start + amount * noise, skip)
        prediction = blended(denoise, clock, latents, timestep, dilation, recipe)
        latents = clock.step(prediction, index, latents, (seed,), stage)
        on_step(index + 1, latents)
    return match_statistics(latents, anchor) if recipe.match_statistics else latents


def blended(denoise: Denoise, clock: Clock, latents: Tensor, timestep: Tensor, dilation: int, recipe: Recipe) -> Tensor:
    """The local and the dilated branch's predictions, blended: one scheduler step serves both.

    The official code steps twice and blends the results: the same for schedulers whose step is linear and without
    memory (DDIM, Euler), wrong for the others.
    """
    scale = clock.scheduler.scale
    local = denoise(scale(latents, timestep), timestep, 1)
    factor = clock.cosine(timestep)
    weight = factor**recipe.dilated_exponent
    if weight < recipe.dilated_cutoff or dilation == 1:
        return local
    sigma = recipe.lowpass_sigma * (0.99 * factor**recipe.lowpass_exponent + 0.01)
    smooth = match_statistics(lowpass(latents, sigma, dilation, recipe.lowpass_padding), latents)
    return torch.lerp(local, denoise(scale(smooth, timestep), timestep, dilation), weight)


def lowpass(latents: Tensor, sigma: float, ratio: int, padding: str) -> Tensor:
    """Gaussian blur of latents (batch, channels, height, width) with a kernel of 2 * ratio - 1 taps, rows then columns."""
    radius = ratio - 1
    offset = torch.arange(-radius, radius + 1, dtype=torch.float32, device=latents.device)
    taps = torch.exp(-(offset**2) / (2 * sigma**2))
    taps = (taps / taps.sum()).to(latents.dtype)
    channels = latents.shape[1]
    for shape, pad in (((-1, 1), (0, 0, radius, radius)), ((1, -1), (radius, radius, 0, 0))):
        padded = F.pad(latents, pad) if padding == "zeros" else _reflect(latents, pad)
        latents = F.conv2d(padded, taps.view(1, 1, *shape).expand(channels, -1, -1, -1), groups=channels)
    return latents


def _reflect(latents: Tensor, pad: tuple[int, int, int, int]) -> Tensor:
    """Mirrored borders; an image smaller than the kernel repeats its border instead."""
    fits = max(pad[0], pad[1]) < latents.shape[-1] and max(pad[2], pad[3]) < latents.shape[-2]
    return F.pad(latents, pad, mode="reflect" if fits else "replicate")


def match_statistics(latents: Tensor, reference: Tensor) -> Tensor:
    """Latents with the mean and deviation per channel of `reference` (any size)."""
    axes = (2, 3)
    standard = (latents - latents.mean(axes, keepdim=True)) / latents.std(axes, keepdim=True)
    return standard * reference.std(axes, keepdim=True) + reference.mean(axes, keepdim=True)
