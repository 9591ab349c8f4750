"""One stage of an image: where its latents start, how they are denoised, and its pixels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from linfusion_cli.engine.attention.score_limit import limited_scores
from linfusion_cli.engine.components.unet_and_vae import Components
from linfusion_cli.engine.controlnet.inputs import stage_controls
from linfusion_cli.engine.distributed.ranks import Ranks
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.meter import Counter, Meter
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.sampling.band_guidance import Guidance
from linfusion_cli.engine.sampling.denoiser import Conditioning, Denoiser, Predict
from linfusion_cli.engine.sampling.finite import RecomputingDenoiser, recomputing, require_finite
from linfusion_cli.engine.sampling.frequency_bands import with_low_band_of
from linfusion_cli.engine.sampling.latent_checkpoint import Checkpoints, Resumed
from linfusion_cli.engine.sampling.noise import EDGE_NOISE, STAGE_NOISE, gaussian
from linfusion_cli.engine.sampling.preview import Previews, Watch, watch_nothing
from linfusion_cli.engine.sampling.progressive_upscale import Clock, OnStep, UpscaleInputs, base, upscale
from linfusion_cli.engine.sampling.schedulers import make_scheduler
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, WholeOrBands
from linfusion_cli.engine.streaming.banded_vae import Sweeper, swept_rows
from linfusion_cli.engine.streaming.image_source import read_fitted, unit_field
from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import Cropped, Extended, Field, Mapped, Parked, collect, sweep
from linfusion_cli.geometry import MULTIPLE_PX, Band
from linfusion_cli.planning.rank_share import halves
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.planning.upscale_schedule import Stage

Rows = np.ndarray[tuple[int, int, int], np.dtype[Any]]  # uint8, or uint16 as the plan says, (rows, width, 3)
LARGEST_16 = 65535


@dataclass(frozen=True, slots=True)
class StageImage:
    """A stage's image: its rows of pixels from the top, computed as they are asked for."""

    stage: Stage
    final: bool
    rows: Iterator[Rows]


@dataclass(frozen=True, slots=True)
class Run:
    """What all stages of one image share."""

    plan: RenderPlan
    components: Components
    weights: Weights
    conditioning: Conditioning
    meter: Meter
    store: ActivationStore
    checkpoints: Checkpoints
    ranks: Ranks | None = None

    def require_finite(self, values: Tensor, stage: Stage, what: str) -> None:
        """Raises NotFiniteError for values that are no numbers, which nothing may be made of or kept."""
        text = f"stage {stage.index} ({stage.size}) {what}"
        require_finite(values, text, self.plan.dtype, self.components.modules)

    def stages(self) -> list[StageRun]:
        """The stages in order, each linked to its neighbours."""
        runs = [StageRun(self, stage) for stage in self.plan.stages]
        for run, following in pairwise(runs):
            run.following, following.previous = following, run
        return runs


@dataclass(slots=True)
class StageRun:
    """One stage at work: start(), run() and image(), in this order.

    latents: (1, channels, height, width) of the stage's canvas in float32; None for stage 0 from noise, before run()
    decoded: the image in [-1, 1] that the next stage starts from
    """

    shared: Run
    stage: Stage
    previous: StageRun | None = None
    following: StageRun | None = None
    latents: Tensor | None = None
    decoded: Field | None = None
    recalled: bool = False
    finished: bool = False

    @property
    def store(self) -> ActivationStore:
        """Where activations of this stage's image wait."""
        return self.shared.store.at(self.stage.canvas.latent().height, self._levels)

    @property
    def _levels(self) -> int:
        """Of the UNet, each of which halves the rows."""
        return len(self.shared.components.unet.config.block_out_channels)

    def start(self) -> None:
        """Finds the latents that the stage starts from: kept ones, or those of an image; noise is added in run()."""
        self.recall()
        shared = self.shared
        if self.finished:
            return
        if self.previous is None:
            if shared.plan.start is not None:
                self.latents = self._encode(self._users_image())
                shared.require_finite(self.latents, self.stage, "encode")
            return
        if self.latents is None:
            self.latents = self._enlarged(self.previous)
            shared.require_finite(self.latents, self.stage, "start")
        shared.checkpoints.start(self.stage.index, self.latents)
        self.previous.release()

    def run(self) -> None:
        """Denoises the latents, or the rest of the way from the step that was kept."""
        if self.finished:
            return
        shared, stage = self.shared, self.stage
        if stage.steps:  # none where stage 0 is the user's image
            clock = self._clock()
            resumed = shared.checkpoints.resume(stage.index, stage.steps, clock.scheduler)
            done = resumed.done if resumed else 0
            with shared.meter.phase("denoise", stage.index, stage.steps, "steps", done) as counter:
                keep = shared.checkpoints.keeping(stage.index, clock.scheduler, counter.reach)
                with limited_scores(limited=shared.plan.scores_limited):
                    self.latents = self._denoised(clock, self._checked(keep), resumed)
            shared.require_finite(self.latents, stage, "denoise, at its end")
        shared.checkpoints.finish(stage.index, _present(self.latents))

    def _checked(self, keep: OnStep) -> OnStep:
        """`keep`, after a check of each step's result."""

        def on_step(done: int, latents: Tensor) -> None:
            self.shared.require_finite(latents, self.stage, f"denoise, step {done} of {self.stage.steps}")
            keep(done, latents)

        return on_step

    def image(self) -> StageImage | None:
        """The final image, or the one that the next stage starts from; None where nothing needs the pixels."""
        if self.following is None:
            return StageImage(self.stage, True, self._at_the_writer(self._pixels(self._decode())))
        if not self._is_image_of(self.following):
            return None
        self.decoded = self._park_decoded()
        rows = self._parked_rows(self.following.stage.bands.vae_px)
        return StageImage(self.stage, False, self._at_the_writer(self._pixels(rows)))

    def _at_the_writer(self, rows: Iterator[Rows]) -> Iterator[Rows]:
        """The rows of all processes on the one that writes, none on the others."""
        ranks, width = self.shared.ranks, self.stage.size.width
        if ranks is None:
            return rows
        if self.shared.plan.row_bits == 8:
            return ranks.at_the_writer(rows, width)
        sent = (piece.view(np.uint8).reshape(len(piece), 2 * width, 3) for piece in rows)  # ranks exchange bytes
        came = ranks.at_the_writer(sent, 2 * width)
        return (piece.reshape(len(piece), -1).view(np.uint16).reshape(len(piece), width, 3) for piece in came)

    def recall(self) -> None:
        """Looks once for what an interrupted run kept: the latents that the stage ended with, or started from."""
        if not self.recalled:
            self.recalled, index = True, self.stage.index
            self.latents = self.shared.checkpoints.finished(index)
            self.finished = self.latents is not None
            if not self.finished and index:
                self.latents = self.shared.checkpoints.started(index)

    def release(self) -> None:
        """Lets go of what the next stage no longer needs; the latents of stage 0 serve all of them."""
        self.decoded = None
        if self.previous is not None:
            self.latents = None

    def _is_image_of(self, following: StageRun) -> bool:
        """Whether the next stage starts from this stage's pixels, and has not started in an interrupted run."""
        plan = self.shared.plan
        if plan.join.between != "pixel" or (plan.upscales_image and self.previous is None):
            return False
        following.recall()
        return following.latents is None

    def _enlarged(self, previous: StageRun) -> Tensor:
        """The latents of the stage before, enlarged to this stage's size."""
        plan = self.shared.plan
        if plan.upscales_image and previous.previous is None:
            return self._encode(self._users_image())  # in its own resolution, which stage 0 may lack
        if previous.decoded is None:
            return self._enlarged_latents(previous)
        encoded = self._encode(previous.decoded)
        if not plan.recipe.frequency_mixing:
            return encoded
        # Z_ref of ScaleDiff (arXiv 2510.25818): the high band of the image encoded again, the low band of the latents
        return with_low_band_of(self._enlarged_latents(previous), encoded, plan.recipe.structure_scale)

    def _enlarged_latents(self, previous: StageRun) -> Tensor:
        """The latents of the stage before, resized; beyond the image, the canvas repeats its border."""
        shown, margin = previous.stage.size.latent(), previous.stage.margin_px // MULTIPLE_PX
        rows, columns = (slice(margin, margin + side) for side in (shown.height, shown.width))
        before = Parked.of(_present(previous.latents)[:, :, rows, columns].contiguous())
        size, kernel = self.stage.size.latent(), self.shared.plan.join.resize
        enlarged = Resized.to(before, size, kernel, -math.inf, math.inf)
        resized = Extended(enlarged, self.stage.canvas.latent(), self.stage.margin_px // MULTIPLE_PX)
        return collect(resized, self.stage.bands.vae_px, self.store, torch.float32)

    def _users_image(self) -> Field:
        """The user's image in its own resolution, in [-1, 1], cut to the aspect of what is made."""
        start = self.shared.plan.start
        assert start is not None
        pixels = read_fitted(start.image, start.parameter, self.shared.plan.size)
        return Mapped(unit_field(pixels, self.shared.store.device), lambda rows: rows * 2 - 1)

    def _denoised(self, clock: Clock, on_step: OnStep, resumed: Resumed | None) -> Tensor:
        plan, stage, noise = self.shared.plan, self.stage, self._noise()
        if not stage.index:
            noised = clock.first(noise, self.latents)
            return base(self._denoiser(clock), clock, noised, (plan.seed,), on_step, resumed, self._watch(clock))
        inputs = UpscaleInputs(
            stage=stage.index,
            dilation=stage.dilation,
            start=_present(self.latents),
            noise=noise,
            extra_noise=self._noise(EDGE_NOISE) if plan.recipe.edge_noise else None,
            anchor=self._anchor(),
            seed=plan.seed,
            recipe=plan.recipe,
        )
        return upscale(self._denoiser(clock), clock, inputs, on_step, resumed, self._watch(clock))

    def _watch(self, clock: Clock) -> Watch:
        """Who sees each prediction. All ranks have the same ones: only the first shows them."""
        settings, ranks = self.shared.plan.preview, self.shared.ranks
        if settings is None or (ranks is not None and ranks.world.rank):
            return watch_nothing
        return Previews(settings, self.stage, len(clock.timesteps), self.shared.meter.notify)

    def _anchor(self) -> Tensor:
        """The latents of stage 0."""
        run = self
        while run.previous is not None:
            run = run.previous
        return _present(run.latents)

    def _park_decoded(self) -> Field:
        """The image of the stage's latents, (1, 3, height, width) in float32, in the activation store.

        Ranks own rows of the canvas: there all of its rows have their place.
        """
        stage, store = self.stage, self.store
        first, height = (stage.margin_px, stage.size.height) if self.shared.ranks is None else (0, stage.canvas.height)
        slab = store.slab((height, stage.size.width, 3), torch.float32)
        image = Parked(slab, height, stage.size.width, 3, store.device)
        for band, rows in self._decode():
            image.write(Band(band.top - first, band.bottom - first), rows)
        return image if height == stage.size.height else Cropped(image, stage.margin_px - first, stage.size.height)

    def _parked_rows(self, rows_px: int) -> Iterator[tuple[Band, Tensor]]:
        """The rows of the parked image, which is held from the first of them on."""
        if self.decoded is not None:
            yield from sweep(self.decoded, rows_px, self.store)

    def _pixels(self, bands: Iterator[tuple[Band, Tensor]]) -> Iterator[Rows]:
        return _to_pixels(bands) if self.shared.plan.row_bits == 8 else _to_deep_pixels(bands)

    def _decode(self) -> Iterator[tuple[Band, Tensor]]:
        """This process's rows of the canvas that the image shows, float32 (1, 3, rows, width), about [-1, 1]."""
        stage, vae, latents = self.stage, self.shared.components.vae, _present(self.latents)
        counted, margin = self._counted(encode=False), stage.margin_px
        shift = vae.config.shift_factor or 0.0
        with self.shared.meter.phase("decode", stage.index, stage.canvas.height, "rows", counted=counted) as counter:
            for band, rows in self._sweeper(counter).decode(latents / vae.config.scaling_factor + shift):
                self.shared.require_finite(rows, stage, f"decode, rows from {band.top}")
                shown = Band(max(band.top, margin), min(band.bottom, margin + stage.size.height))
                if shown.height > 0:
                    part = rows[:, :, shown.top - band.top : shown.bottom - band.top]
                    yield shown, part[..., margin : margin + stage.size.width]

    def _counted(self, *, encode: bool) -> int:
        """The rows of all layers of the autoencoder that this process sweeps over."""
        vae, peers = self.shared.components.vae, self.store.peers
        return swept_rows(vae, self.stage.canvas.height, encode=encode, own=lambda height: peers.own(height).height)

    def _encode(self, image: Field) -> Tensor:
        """The latents of an image of any size, enlarged to the stage's."""
        stage, vae = self.stage, self.shared.components.vae
        counted = self._counted(encode=True)
        resized = Resized.to(image, stage.size, self.shared.plan.join.resize)
        enlarged = Extended(resized, stage.canvas, stage.margin_px)
        with self.shared.meter.phase("encode", stage.index, stage.canvas.height, "rows", counted=counted) as counter:
            latents = self._sweeper(counter).encode(enlarged)
        shift, scale = float(vae.config.shift_factor or 0.0), float(vae.config.scaling_factor)
        return (latents - shift) * scale

    def _denoiser(self, clock: Clock) -> Denoiser | RecomputingDenoiser:
        shared, stage = self.shared, self.stage
        components, weights, store, split = shared.components, shared.weights, self.store, None
        if shared.ranks is not None and halves(stage, shared.ranks.world.size) == 2:
            store, split = shared.ranks.for_guidance(store, stage.canvas.latent().height, self._levels)
        mounted = weights.move(components.mounted.attend(stage.attention, stage.role))
        kind = BandedUNet if stage.bands.unet_latent else WholeOrBands.of
        unet: Predict = kind(mounted, stage.band_latent, store, weights)
        controls = stage_controls(components.controlnets, shared.plan.controls, stage, clock.timesteps, store, weights)
        denoiser = Denoiser(
            unet,
            shared.conditioning,
            shared.plan.sampler,
            Guidance.of(shared.plan.sampler, stage),
            int(components.scheduler_config["num_train_timesteps"]),
            shared.plan.conditioned_size,
            controls,
            int(components.unet.config.time_cond_proj_dim or 0),
            split,
        )
        return recomputing(denoiser, (components.unet, *components.mounted.modules), shared.plan, shared.meter.notify)

    def _sweeper(self, counter: Counter) -> Sweeper:
        bands, window = self.stage.bands, self.shared.plan.join.vae_window_latents
        return Sweeper(self.shared.components.vae, bands.vae_px, bands.keep, window, self.store, counter.add)

    def _clock(self) -> Clock:
        sampler = self.shared.plan.sampler
        scheduler = make_scheduler(sampler.scheduler, self.shared.components.scheduler_config)
        return Clock.of_stage(self.stage, scheduler, sampler)

    def _noise(self, draw: int = STAGE_NOISE) -> Tensor:
        """Unit noise of the shape of the stage's latents, which depends on seed, stage and draw alone."""
        size = self.stage.canvas.latent()
        shape = (1, int(self.shared.components.unet.config.in_channels), size.height, size.width)
        return gaussian(shape, self.shared.plan.seed, self.stage.index, draw).to(self.shared.store.device)


def _present(latents: Tensor | None) -> Tensor:
    """The latents of a stage that has started. Raises RuntimeError before."""
    if latents is None:
        raise RuntimeError("the stage has no latents yet; call start() and run() first")
    return latents


def _to_pixels(bands: Iterator[tuple[Band, Tensor]]) -> Iterator[Rows]:
    """Rows (1, 3, rows, width) in [-1, 1] to whole levels 0 to 255, rounded."""
    for _, rows in bands:
        levels = (rows[0] * 127.5 + 127.5).round().clamp(0, 255).to(torch.uint8)
        yield levels.permute(1, 2, 0).contiguous().cpu().numpy()


def _to_deep_pixels(bands: Iterator[tuple[Band, Tensor]]) -> Iterator[Rows]:
    """The same to whole levels 0 to 65535."""
    for _, rows in bands:
        levels = ((rows[0].float() + 1) * (LARGEST_16 / 2)).round().clamp(0, LARGEST_16).to(torch.int32)
        yield levels.permute(1, 2, 0).contiguous().cpu().numpy().astype(np.uint16)
