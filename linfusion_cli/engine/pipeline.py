"""The story of one image, from the words to its rows of pixels. Read this first."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from linfusion_cli.config.extras import grown_from
from linfusion_cli.engine.components.model_cache import ModelCache
from linfusion_cli.engine.components.unet_and_vae import Models
from linfusion_cli.engine.controlnet.inputs import stage_controls
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.allocator import Relief, large_apart
from linfusion_cli.engine.memory.meter import Counter, Meter
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.sampling.denoiser import Conditioning, Denoiser, Predict
from linfusion_cli.engine.sampling.latent_checkpoint import Checkpoints, Keeper, KeepNothing, fingerprint
from linfusion_cli.engine.sampling.noise import gaussian
from linfusion_cli.engine.sampling.progressive_upscale import Clock, Recipe, base, upscale
from linfusion_cli.engine.sampling.schedulers import make_scheduler
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, WholeOrBands
from linfusion_cli.engine.streaming.banded_vae import Sweeper, swept_rows
from linfusion_cli.engine.streaming.image_source import read_fitted, unit_field
from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import Extended, Field, Mapped, Parked, sweep
from linfusion_cli.events import Note, Notify
from linfusion_cli.geometry import Band, base_size
from linfusion_cli.planning.planner import Plan
from linfusion_cli.planning.upscale_schedule import Stage

Rows = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # (rows, width, 3)


@dataclass(frozen=True, slots=True)
class Image:
    """A stage's image: its rows of pixels from the top, computed as they are asked for."""

    stage: Stage
    final: bool
    rows: Iterator[Rows]


def images(
    plan: Plan, notify: Notify, keeper: Keeper | None = None, model_cache: ModelCache | None = None
) -> Iterator[Image]:
    """Makes the plan's image stage by stage.

    Yields each stage's image that exists in pixels (all of them where stages are joined in pixels), the final one last.
    The rows of an image must be read, or left, before the next image is asked for. What `keeper` holds of an
    interrupted run is not made again, and such stages yield no image. `model_cache` keeps the models for the next image of a
    plan in which the text_encoders stay.
    """
    device = torch.device(plan.machine.device)
    meter = Meter(device, notify)
    with large_apart(), meter.phase("load", 0, 1, "steps") as counter:
        conditioning, models = (model_cache or ModelCache()).take(plan, notify)
        made_with = fingerprint(models.modules, conditioning, plan.dtype, plan.machine.kind) if keeper else ""
        weights = Weights(device, plan.weights_resident)
        models.move(weights)
        counter.reach(1)
    kept = Checkpoints(keeper or KeepNothing(), made_with, device, notify)
    engine = _Engine(plan, models, weights, conditioning, meter, _store(plan, device, notify), kept)
    latents = anchor = engine.first()
    for stage in plan.stages[1:]:
        if (finished := kept.finished(stage.index)) is not None:
            latents = finished
            continue
        start = kept.started(stage.index)
        if start is None and engine.is_given(stage.index - 1):
            start = engine.encode(engine.given(), stage)
        elif start is None and plan.job.settings.upscale.between == "pixel":
            decoded = engine.park_decoded(latents, plan.stages[stage.index - 1])
            yield Image(
                plan.stages[stage.index - 1],
                False,
                _to_pixels(rows for _, rows in sweep(decoded, stage.bands.vae_px, engine.store)),
            )
            start = engine.encode(decoded, stage)
            del decoded
        elif start is None:
            start = engine.enlarge(latents, stage)
        kept.start(stage.index, start)
        latents = engine.upscale(start, anchor, stage)
    yield Image(plan.stages[-1], True, _to_pixels(engine.decode(latents, plan.stages[-1])))


def _store(plan: Plan, device: torch.device, notify: Notify) -> ActivationStore:
    relieve = (
        Relief(plan.peak_bytes) if device.type == "cpu" else lambda: None
    )  # elsewhere the plan is one of the device's memory
    return ActivationStore(device, plan.store_budget, lambda text: notify(Note(text=text)), relieve=relieve)


def _to_pixels(bands: Iterator[Tensor]) -> Iterator[Rows]:
    """Rows (1, 3, rows, width) in [-1, 1] to whole levels 0 to 255, rounded."""
    for band in bands:
        levels = (band[0] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        yield levels.permute(1, 2, 0).contiguous().cpu().numpy()


@dataclass(frozen=True, slots=True)
class _Engine:
    plan: Plan
    models: Models
    weights: Weights
    conditioning: Conditioning
    meter: Meter
    store: ActivationStore
    kept: Checkpoints

    def is_given(self, index: int) -> bool:
        """Whether a stage is the user's image itself, to be upscaled."""
        return index == 0 and grown_from(self.plan.job.start) is not None

    def given(self) -> Field:
        """The user's image in its own resolution, in [-1, 1], cut to the shape of what is made."""
        start = self.plan.job.start
        assert start is not None
        pixels = read_fitted(start.image, start.flag, self.plan.job.size)
        return Mapped(unit_field(pixels, self.store.device), lambda rows: rows * 2 - 1)

    def first(self) -> Tensor:
        """Stage 0: latents from noise, or from the user's image."""
        stage, start, seed = self.plan.stages[0], self.plan.job.start, self.plan.job.seed
        if (finished := self.kept.finished(0)) is not None:
            return finished
        given = None if start is None else self.encode(self.given(), stage)
        if given is not None and not stage.steps:
            self.kept.finish(0, given)
            return given
        clock = self._clock(stage)
        resumed = self.kept.resume(0, stage.steps, clock.scheduler)
        with self.meter.phase("denoise", 0, stage.steps, "steps", resumed.done if resumed else 0) as counter:
            on_step = self.kept.keeping(0, clock.scheduler, counter.reach)
            noised = clock.first(self._noise(stage), given)
            latents = base(self._denoiser(stage, clock), clock, noised, (seed,), on_step, resumed)
        self.kept.finish(0, latents)
        return latents

    def upscale(self, start: Tensor, anchor: Tensor, stage: Stage) -> Tensor:
        """A later stage: latents from the enlarged image's latents."""
        settings = self.plan.job.settings.upscale
        recipe = Recipe(
            skip_exponent=settings.skip_exponent,
            dilated_exponent=settings.dilated_exponent,
            lowpass_exponent=settings.lowpass_exponent,
            lowpass_sigma=settings.lowpass_sigma,
            dilated_cutoff=settings.dilated_cutoff,
            lowpass_padding=settings.lowpass_padding,
            match_statistics=settings.match_statistics,
        )
        clock, noise, seed = self._clock(stage), self._noise(stage), self.plan.job.seed
        resumed = self.kept.resume(stage.index, stage.steps, clock.scheduler)
        with self.meter.phase("denoise", stage.index, stage.steps, "steps", resumed.done if resumed else 0) as counter:
            on_step = self.kept.keeping(stage.index, clock.scheduler, counter.reach)
            latents = upscale(
                self._denoiser(stage, clock),
                clock,
                start,
                noise,
                anchor,
                stage.dilation,
                recipe,
                seed,
                stage.index,
                on_step,
                resumed,
            )
        self.kept.finish(stage.index, latents)
        return latents

    def park_decoded(self, latents: Tensor, stage: Stage) -> Parked:
        """The image of a stage's latents, (1, 3, height, width) in float32, where there is room for it."""
        image = Parked(
            self.store.slab((stage.size.height, stage.size.width, 3), torch.float32),
            stage.size.height,
            stage.size.width,
            3,
            self.store.device,
        )
        top = 0
        for rows in self.decode(latents, stage):
            image.write(Band(top, top + rows.shape[2]), rows)
            top += rows.shape[2]
        return image

    def decode(self, latents: Tensor, stage: Stage) -> Iterator[Tensor]:
        """The rows of a stage's latents, float32 (1, 3, rows, width), about [-1, 1]."""
        vae = self.models.vae
        counted = swept_rows(vae, stage.canvas.height, encode=False)
        shift = vae.config.shift_factor or 0.0
        with self.meter.phase("decode", stage.index, stage.canvas.height, "rows", counted=counted) as counter:
            for band, rows in self._sweeper(stage, counter).decode(latents / vae.config.scaling_factor + shift):
                if band.top < stage.size.height:
                    yield rows[:, :, : stage.size.height - band.top, : stage.size.width]

    def encode(self, image: Field, stage: Stage) -> Tensor:
        """The latents that a stage starts from: the image of the stage before, enlarged and encoded."""
        vae = self.models.vae
        settings = self.plan.job.settings.upscale
        counted = swept_rows(vae, stage.canvas.height, encode=True)
        enlarged = Extended(Resized.to(image, stage.size, settings.resize), stage.canvas)
        with self.meter.phase("encode", stage.index, stage.canvas.height, "rows", counted=counted) as counter:
            latents = self._sweeper(stage, counter).encode(enlarged)
        shift, scale = float(vae.config.shift_factor or 0.0), float(vae.config.scaling_factor)
        return (latents - shift) * scale

    def enlarge(self, latents: Tensor, stage: Stage) -> Tensor:
        """The latents that a stage starts from where stages are joined without leaving the latents."""
        size = stage.size.latent()
        resized = Resized.to(Parked.of(latents), size, self.plan.job.settings.upscale.resize, -math.inf, math.inf)
        return torch.cat([rows for _, rows in sweep(resized, stage.bands.vae_px, self.store)], dim=2)

    def _denoiser(self, stage: Stage, clock: Clock) -> Denoiser:
        settings = self.plan.job.settings.sampling
        total = int(self.models.scheduler_config["num_train_timesteps"])
        conditioned = base_size(
            self.plan.job.size, self.plan.job.settings.model.train_size_px**2
        )  # one that the model knows, at every stage
        mounted = self.weights.move(self.models.mounted.attend(stage.attention))
        kind = BandedUNet if stage.bands.unet_latent else WholeOrBands.of
        unet: Predict = kind(mounted, stage.band_latent, self.store, self.weights)
        controls = stage_controls(
            self.models.controlnets, self.plan.job, stage, clock.timesteps, self.store, self.weights
        )
        return Denoiser(
            unet, self.conditioning, settings.guidance_scale, settings.guidance_interval, total, conditioned, controls
        )

    def _sweeper(self, stage: Stage, counter: Counter) -> Sweeper:
        window = self.plan.job.settings.upscale.vae_window_latents
        return Sweeper(self.models.vae, stage.bands.vae_px, stage.bands.keep, window, self.store, counter.add)

    def _clock(self, stage: Stage) -> Clock:
        sampling = self.plan.job.settings.sampling
        scheduler = make_scheduler(sampling.scheduler, self.models.scheduler_config)
        return Clock.start(scheduler, sampling.steps, stage.strength, self.store.device)

    def _noise(self, stage: Stage) -> Tensor:
        size = stage.canvas.latent()
        shape = (1, int(self.models.unet.config.in_channels), size.height, size.width)
        return gaussian(shape, self.plan.job.seed, stage.index).to(self.store.device)
