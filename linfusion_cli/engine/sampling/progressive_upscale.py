"""The progressive schedule: a base image, then stages that each start from the last (DemoFusion, arXiv 2311.16973)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.sampling.clean_prediction import CleanPrediction
from linfusion_cli.engine.sampling.edge_noise import with_edge_noise
from linfusion_cli.engine.sampling.latent_checkpoint import Resumed
from linfusion_cli.engine.sampling.noise import generator
from linfusion_cli.engine.sampling.preview import Watch, watch_nothing
from linfusion_cli.engine.sampling.schedulers import Scheduler
from linfusion_cli.engine.sampling.structure_guidance import StructureGuidance, noise_share
from linfusion_cli.planning.render_plan import SamplerSettings, UpscaleRecipe
from linfusion_cli.planning.upscale_schedule import Stage

Denoise = Callable[[Tensor, Tensor, int], Tensor]  # latents, timestep, dilation -> noise prediction
OnStep = Callable[[int, Tensor], None]  # steps done, latents


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleInputs:
    """What one later stage is made from.

    stage:    its index, from 1; dilation: how many times larger than stage 0 it is
    start:    latents z0 of the enlarged image, (1, channels, height, width)
    noise:    of the same shape; extra_noise: the same, of another draw, for edge noise; anchor: the latents of stage 0
    seed:     0 to 2^32 - 1, for schedulers that draw noise at every step
    """

    stage: int
    dilation: int
    start: Tensor
    noise: Tensor
    extra_noise: Tensor | None = None
    anchor: Tensor
    seed: int
    recipe: UpscaleRecipe


@dataclass(frozen=True, slots=True)
class Clock:
    """A scheduler set to a number of steps, of which the last `strength` part is run.

    predictions: how many of its timesteps are run: where some are left out, the stage ends early
    """

    scheduler: Scheduler
    predictions: int

    @staticmethod
    def start(
        scheduler: object,
        steps: int,
        strength: float,
        predictions: int | None = None,
        eta: float = -1.0,
    ) -> Clock:
        """Sets the scheduler; strength 1 runs all steps, 0.25 the last quarter (rounded up).

        predictions: as many of the scheduler's as are run, from the first on; None = all
        eta: see SamplerSettings
        """
        started = Scheduler.start(scheduler, steps, strength, eta)
        return Clock(started, len(started.timesteps) if predictions is None else predictions)

    @staticmethod
    def of_stage(stage: Stage, scheduler: object, sampler: SamplerSettings) -> Clock:
        """Sets the scheduler to the sampler's steps, of which the stage runs its part."""
        predictions = stage.steps if stage.ends_early else None
        return Clock.start(scheduler, sampler.steps, stage.strength, predictions, sampler.eta)

    @property
    def timesteps(self) -> Tensor:
        """(predictions,) of the predictions that are run, in RAM."""
        return self.scheduler.timesteps[: self.predictions]

    @property
    def levels(self) -> tuple[tuple[float, float], ...]:
        """Signal and noise of an image noised to each timestep."""
        return self.scheduler.levels

    def first(self, noise: Tensor, start: Tensor | None = None) -> Tensor:
        """The input of stage 0: unit noise, or an image's latents noised to timestep 0 (SDEdit, arXiv 2108.01073)."""
        if start is None:
            return noise * self.scheduler.initial_sigma
        signal, amount = self.levels[0]
        return signal * start + amount * noise

    def clean_prediction(self, index: int) -> CleanPrediction:
        """How a prediction at `index` and x0 follow from each other."""
        return CleanPrediction(self.scheduler.prediction, *self.levels[index])

    def cosine(self, timestep: Tensor) -> float:
        """f = (1 + cos(pi (T - t) / T)) / 2: 1 at full noise, 0 at none."""
        total = self.scheduler.train_timesteps
        return 0.5 * (1 + math.cos(math.pi * (total - float(timestep)) / total))

    def step(self, prediction: Tensor, index: int, latents: Tensor, seeds: Sequence[int], stage: int) -> Tensor:
        """One step of the scheduler; stochastic ones draw noise that depends on an image's seed, stage and step alone.

        seeds: one for each of the batch
        Where the stage ends early, its last step goes to x0 at once.
        """
        if index + 1 == self.predictions < len(self.scheduler.timesteps):
            return self.clean_prediction(index).clean(prediction, latents)
        noise = [generator(seed, stage, index + 1) for seed in seeds]
        return self.scheduler.step(prediction, index, latents, noise)


def base(
    denoise: Denoise,
    clock: Clock,
    latents: Tensor,
    seeds: Sequence[int],
    on_step: OnStep,
    resumed: Resumed | None = None,
    watch: Watch = watch_nothing,
) -> Tensor:
    """Stage 0 from the noisy latents (batch, channels, height, width) of Clock.first, or from where it was interrupted.

    seeds: one per image of the batch
    """
    latents = resumed.latents if resumed else latents
    for index in range(resumed.done if resumed else 0, len(clock.timesteps)):
        timestep = clock.timesteps[index]
        prediction = denoise(clock.scheduler.scale(latents, timestep), timestep, 1)
        watch(index, prediction, latents, clock.clean_prediction(index))
        latents = clock.step(prediction, index, latents, seeds, 0)
        on_step(index + 1, latents)
    return latents


def upscale(
    denoise: Denoise,
    clock: Clock,
    inputs: UpscaleInputs,
    on_step: OnStep,
    resumed: Resumed | None = None,
    watch: Watch = watch_nothing,
) -> Tensor:
    """Runs one later stage, or the rest of it where it was interrupted; returns its latents."""
    noise, recipe = inputs.noise, inputs.recipe
    start, structure = _with_extra_noise(inputs), _structure_guidance(inputs, clock)
    latents = resumed.latents if resumed else _noised(start, noise, clock.levels[0])
    for index in range(resumed.done if resumed else 0, len(clock.timesteps)):
        timestep = clock.timesteps[index]
        skip = clock.cosine(timestep) ** recipe.skip_exponent
        latents = torch.lerp(latents, _noised(start, noise, clock.levels[index]), skip)
        prediction = blended(denoise, clock, latents, timestep, inputs.dilation, recipe)
        if structure is not None:
            prediction = structure(prediction, latents, clock.clean_prediction(index))
        watch(index, prediction, latents, clock.clean_prediction(index))
        latents = clock.step(prediction, index, latents, (inputs.seed,), inputs.stage)
        on_step(index + 1, latents)
    return match_statistics(latents, inputs.anchor) if recipe.match_statistics else latents


def _with_extra_noise(inputs: UpscaleInputs) -> Tensor:
    """The latents that the stage noises: those of the enlarged image, with edge noise where the recipe has it."""
    start = inputs.start.contiguous()
    if inputs.extra_noise is None:
        return start
    return with_edge_noise(start, inputs.extra_noise, inputs.recipe.edge_noise)


def _structure_guidance(inputs: UpscaleInputs, clock: Clock) -> StructureGuidance | None:
    """The guidance of the stage; None where the recipe has none."""
    recipe = inputs.recipe
    if not recipe.structure_guidance or not clock.levels:
        return None
    reference, first = inputs.start.contiguous(), noise_share(*clock.levels[0])
    return StructureGuidance(reference, recipe.structure_guidance, recipe.structure_scale, first)


def _noised(start: Tensor, noise: Tensor, level: tuple[float, float]) -> Tensor:
    """Latents with so much signal and noise."""
    signal, amount = level
    return signal * start + amount * noise


def blended(
    denoise: Denoise, clock: Clock, latents: Tensor, timestep: Tensor, dilation: int, recipe: UpscaleRecipe
) -> Tensor:
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
    """Gaussian blur of latents (batch, channels, height, width): a kernel of 2 * ratio - 1 taps, rows then columns."""
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
