"""The stages of the progressive upscale: sizes, steps and bands, before anything is known of memory."""

from __future__ import annotations

import math
from dataclasses import dataclass

from linfusion_cli.config.extras import grown_from
from linfusion_cli.config.job import Job
from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.geometry import Size, base_size, stage_sizes
from linfusion_cli.planning.memory_budget import Keep

BAND_AREA_PX = {
    "cpu": 1 << 17,
    "cuda": 1 << 23,
    "mps": 1 << 21,
}  # of the autoencoder's bands: those of a CPU stay in its caches
UNET_BAND_AREA = {"cpu": 1 << 13, "cuda": 1 << 18, "mps": 1 << 16}  # in latents
LEAST_UNET_ROWS = (
    16  # of latents: what a band computes of its neighbours costs a third of a pass at 4 rows, a twentieth at 16
)
SMALLEST_BAND_PX = 8


@dataclass(frozen=True, slots=True)
class Bands:
    """How a stage is computed in parts.

    unet_latent: the height of the UNet's bands in rows of latents (0 = the whole image at once, by the UNet as it is)
    vae_px:      that of the autoencoder's in rows of pixels
    keep:        what waits between the autoencoder's sweeps, for each level, full resolution first
    """

    unet_latent: int
    vae_px: int
    keep: tuple[Keep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the progressive upscale; sizes in pixels, ratio and dilation against stage 0.

    before: of the stage before, whose image this one enlarges; its own size at stage 0
    attention: "linear" or "softmax" self-attention in the UNet
    steps: predictions that are asked for: by most schedulers one per step, see `times`
    canvas: what is computed; the size, and beyond its right and lower edge the overscan, which is cut off.
    """

    index: int
    size: Size
    before: Size
    canvas: Size
    ratio: float
    dilation: int
    strength: float
    steps: int
    guided_steps: int
    dilated_steps: int
    attention: str
    bands: Bands

    @property
    def band_latent(self) -> int:
        """Rows of latents in a band of the UNet; half of them where it runs on the whole image at once, in case that does not fit after all."""
        return self.bands.unet_latent or self.canvas.latent().height // 2


def plan_stages(job: Job, kind: str, halvings: int = 0, levels: int = 4) -> tuple[Stage, ...]:
    """Sizes, steps and bands of every stage for a kind of device; `halvings` makes the bands so many times half as high.

    levels: of the autoencoder, which keeps everything between its sweeps.
    """
    settings = job.settings
    sizes = stage_sizes(job.size, settings.model.train_size_px**2, settings.upscale.factor, grown_from(job.start))
    base = base_size(job.size, settings.model.train_size_px**2)
    return tuple(
        _stage(job, index, sizes, base, _bands(size, _canvas(job, index, size), kind, halvings, levels))
        for index, size in enumerate(sizes)
    )


def _first_strength(job: Job) -> float:
    """How much of the steps stage 0 runs: all from noise, some from an image to redraw, none from one to upscale."""
    if job.start is None:
        return 1.0
    return job.settings.sampling.init_strength if job.start.refined else 0.0


def steps_run(steps: int, strength: float) -> int:
    """How many of `steps` a stage of that strength runs: rounded up, but not by the dust of floating point; at least one."""
    return max(1, min(steps, math.ceil(steps * strength - 1e-4)))


def times(scheduler: str, steps: int, strength: float) -> list[float]:
    """t / T of every prediction that a stage asks for: Heun's two per step but the last, PNDM's second one twice."""
    run = steps_run(steps, strength)
    each = [strength * (1 - step / run) for step in range(run)]
    match SCHEDULERS[scheduler].asks_twice:
        case "after first":
            return each[:1] + [time for time in each[1:] for _ in range(2)]
        case "second":
            return each[:2] + each[1:]
        case "never":
            return each


def _bands(size: Size, canvas: Size, kind: str, halvings: int, levels: int) -> Bands:
    """The heights that are fast on a kind of device, halved so many times.

    Where that is one band on a CPU, the UNet runs as it is: small layers cost little more than their calls, of which bands
    need more (a sixth to two fifths of a pass up to 512 pixels, see docs/log.md). Larger images are quicker in bands.
    """
    unet = max(1, max(LEAST_UNET_ROWS, UNET_BAND_AREA[kind] // size.latent().width) >> halvings)
    vae = max(SMALLEST_BAND_PX, BAND_AREA_PX[kind] // size.width >> halvings)
    everything: Keep = "all"
    rows = 0 if kind == "cpu" and unet >= canvas.latent().height else min(unet, size.latent().height)
    return Bands(rows, min(vae, size.height), (everything,) * levels)


def _canvas(job: Job, index: int, size: Size) -> Size:
    """What is computed of a stage: its size, and the overscan of those that are made from an image."""
    upscale = job.settings.upscale
    overscan = upscale.overscan_px if index and upscale.between == "pixel" else 0
    return Size(size.width + overscan, size.height + overscan)


def _stage(job: Job, index: int, sizes: tuple[Size, ...], base: Size, bands: Bands) -> Stage:
    sampling, upscale = job.settings.sampling, job.settings.upscale
    size, last = sizes[index], len(sizes) - 1
    strength = (
        _first_strength(job) if index == 0 else upscale.strength * (1 - (index - 1) / last)
    )  # linear, as the official code
    asked = times(sampling.scheduler, sampling.steps, strength) if strength else []
    low, high = sampling.guidance_interval
    guided = sum(low <= time <= high for time in asked) if sampling.guidance_scale != 1 else 0
    ratio = max(size.width / base.width, size.height / base.height)
    dilation = max(1, round(ratio))
    weights = [(0.5 * (1 + math.cos(math.pi * (1 - time)))) ** upscale.dilated_exponent for time in asked]
    dilated = sum(weight >= upscale.dilated_cutoff for weight in weights) if dilation > 1 else 0
    return Stage(
        index=index,
        size=size,
        before=sizes[max(0, index - 1)],
        canvas=_canvas(job, index, size),
        ratio=ratio,
        dilation=dilation,
        strength=strength,
        steps=len(asked),
        guided_steps=guided,
        dilated_steps=dilated,
        attention=job.settings.model.attention if index else job.settings.model.base_attention,
        bands=bands,
    )
