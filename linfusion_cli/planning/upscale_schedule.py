"""The stages of the progressive upscale: sizes, steps and bands, before memory is considered."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

from linfusion_cli.config.extras import grown_from
from linfusion_cli.config.job import Job
from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.geometry import Size, base_size, stage_sizes
from linfusion_cli.planning.memory_budget import Keep

# Areas of bands that are fast on a kind of device. Those of a CPU stay in its caches; measured, see docs/log.md.
# With 256 channels no band of a GPU has 2^31 values or more, where convolutions fail (pytorch #95024, #117736).
BAND_AREA_PX = {"cpu": 1 << 17, "cuda": 1 << 21, "mps": 1 << 20}  # of the autoencoder
UNET_BAND_AREA = {"cpu": 1 << 13, "cuda": 1 << 18, "mps": 1 << 16}  # in latents
LEAST_UNET_ROWS = 16  # of latents: computing the halo again costs a twentieth of a pass there, a third at 4 rows
SMALLEST_BAND_PX = 8
ROUNDING = 1e-4  # of a strength or a time: a rounding error is no step


@dataclass(frozen=True, slots=True)
class Bands:
    """The bands of a stage.

    unet_latent: height of the UNet's bands in rows of latents; 0: the whole image at once, by the plain UNet
    vae_px:      height of the autoencoder's bands in rows of pixels
    keep:        what waits between the autoencoder's sweeps, for each level, full resolution first
    """

    unet_latent: int
    vae_px: int
    keep: tuple[Keep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the progressive upscale.

    size:          in pixels
    before:        the size of the stage before, whose image this one enlarges; its own size at stage 0
    canvas:        what is computed: the size and the overscan beyond its edges, which is cut off
    margin_px:     the overscan to the left and above, 0 where it is to the right and below alone
    ratio:         how many times wider (or higher) than stage 0; dilation: the same, rounded
    strength:      the part of the steps that is run, 0 to 1
    steps:         predictions; most schedulers ask for one per step, see `times`
    ends_early:    the clean latents that the last of them predicts are the result (upscale.early_end)
    guided_steps:  predictions with guidance; dilated_steps: predictions with the dilated branch
    attention:     "linear" or "softmax" self-attention in the UNet
    """

    index: int
    size: Size
    before: Size
    canvas: Size
    margin_px: int
    ratio: float
    dilation: int
    strength: float
    steps: int
    guided_steps: int
    dilated_steps: int
    attention: str
    bands: Bands
    ends_early: bool = False

    @property
    def role(self) -> str:
        """ "base": it composes the image; "upscale": it enlarges one."""
        return "upscale" if self.index else "base"

    @property
    def is_guided_throughout(self) -> bool:
        """Whether every prediction has guidance: then two halves of several ranks may compute one half each."""
        return bool(self.steps) and self.guided_steps == self.steps

    @property
    def band_latent(self) -> int:
        """Rows of latents in a band of the UNet; half the image, for the fallback, where the plain UNet runs."""
        return self.bands.unet_latent or self.canvas.latent().height // 2

    def in_bands(self) -> Stage:
        """The stage with the UNet in bands, which ranks divide among them."""
        return replace(self, bands=replace(self.bands, unet_latent=self.band_latent or 1))


def plan_stages(job: Job, kind: str, halvings: int = 0, levels: int = 4) -> tuple[Stage, ...]:
    """Sizes, steps and bands of every stage for a kind of device ("cpu", "cuda" or "mps").

    halvings: how often the height of the bands is halved; levels: of the autoencoder, which keeps all activations
    """
    settings = job.settings
    train_area_px = settings.model.train_size_px**2
    sizes = stage_sizes(job.size, train_area_px, settings.upscale.factor, grown_from(job.start))
    base = base_size(job.size, train_area_px)
    return tuple(
        _stage(job, index, sizes, base, _bands(size, _canvas(job, index, size), kind, halvings, levels))
        for index, size in enumerate(sizes)
    )


def _first_strength(job: Job) -> float:
    """The part of the steps that stage 0 runs: all from noise, some to redraw an image, none to upscale one."""
    if job.start is None:
        return 1.0
    return job.settings.sampling.init_strength if job.start.refined else 0.0


def steps_run(steps: int, strength: float) -> int:
    """How many of `steps` a stage of that strength (0 to 1) runs: rounded up, at least one."""
    return max(1, min(steps, math.ceil(steps * strength - ROUNDING)))


def times(scheduler: str, steps: int, strength: float) -> list[float]:
    """t / T, 1 to 0, of every prediction that a stage asks for."""
    run = steps_run(steps, strength)
    each = [strength * (1 - step / run) for step in range(run)]
    match SCHEDULERS[scheduler].asks_twice:
        case "after first":
            return each[:1] + [time for time in each[1:] for _ in range(2)]
        case "midway":
            pairs = pairwise(each)
            return each[:1] + [time for before, after in pairs for time in ((before + after) / 2, after)]
        case "second":
            return each[:2] + each[1:]
        case "never":
            return each


def _bands(size: Size, canvas: Size, kind: str, halvings: int, levels: int) -> Bands:
    """The heights that are fast on a kind of device, halved `halvings` times.

    Where one band holds the whole image on a CPU, the plain UNet runs: small layers cost little more than their calls,
    of which bands need more (a sixth to two fifths of a pass up to 512 pixels, see docs/log.md).
    """
    unet = max(1, max(LEAST_UNET_ROWS, UNET_BAND_AREA[kind] // size.latent().width) >> halvings)
    vae = max(SMALLEST_BAND_PX, BAND_AREA_PX[kind] // size.width >> halvings)
    everything: Keep = "all"
    rows = 0 if kind == "cpu" and unet >= canvas.latent().height else min(unet, size.latent().height)
    return Bands(rows, min(vae, size.height), (everything,) * levels)


def _canvas(job: Job, index: int, size: Size) -> Size:
    """What is computed of a stage: its size, and the overscan if the stage is made from an image."""
    upscale = job.settings.upscale
    overscan = upscale.overscan_px if index and upscale.between == "pixel" else 0
    both = overscan + _margin_px(job, index)
    return Size(size.width + both, size.height + both)


def _margin_px(job: Job, index: int) -> int:
    """The overscan to the left and above."""
    upscale = job.settings.upscale
    return upscale.overscan_px if upscale.overscan_all_sides and index and upscale.between == "pixel" else 0


def _stage(job: Job, index: int, sizes: tuple[Size, ...], base: Size, bands: Bands) -> Stage:
    """One stage of a job. base: the size of stage 0; bands: of all stages."""
    size, strength = sizes[index], _strength(job, index, len(sizes) - 1)
    ratio = max(size.width / base.width, size.height / base.height)
    sampling, dilation = job.settings.sampling, max(1, round(ratio))
    whole = times(sampling.scheduler, sampling.steps, strength) if strength else []
    asked = _until(_end(job, index, len(sizes) - 1), whole)
    return Stage(
        index=index,
        size=size,
        before=sizes[max(0, index - 1)],
        canvas=_canvas(job, index, size),
        margin_px=_margin_px(job, index),
        ratio=ratio,
        dilation=dilation,
        strength=strength,
        steps=len(asked),
        guided_steps=_guided_steps(job, index, asked),
        dilated_steps=_dilated_steps(job, asked) if dilation > 1 else 0,
        attention=job.settings.model.attention if index else job.settings.model.base_attention,
        bands=bands,
        ends_early=len(asked) < len(whole),
    )


def _end(job: Job, index: int, last: int) -> float:
    """t / T at which a stage ends: 0 for the last; for the others no more than where the next one begins."""
    return 0.0 if index == last else min(job.settings.upscale.early_end, _strength(job, index + 1, last))


def _until(end: float, asked: list[float]) -> list[float]:
    """The predictions down to the first at t / T <= end, whose clean latents are the result; all of them for 0.

    The early switch of FreCaS (arXiv 2410.18410, section 3) and RectifiedHR (arXiv 2503.02537): the next stage adds
    noise to the prediction x0 at timestep L, instead of to the end of the steps.
    """
    above = sum(time > end + ROUNDING for time in asked)
    return asked[: above + 1] if end else asked


def _strength(job: Job, index: int, last: int) -> float:
    """Falls linearly over the later stages, as in the official code."""
    return _first_strength(job) if index == 0 else job.settings.upscale.strength * (1 - (index - 1) / last)


def _guided_steps(job: Job, index: int, asked: list[float]) -> int:
    sampling = job.settings.sampling
    low, high = sampling.guidance_interval
    scales = sampling.guidance_bands if index else (sampling.guidance,)
    return sum(low <= time <= high for time in asked) if set(scales) != {1} else 0


def _dilated_steps(job: Job, asked: list[float]) -> int:
    upscale = job.settings.upscale
    weights = ((0.5 * (1 + math.cos(math.pi * (1 - time)))) ** upscale.dilated_exponent for time in asked)
    return sum(weight >= upscale.dilated_cutoff for weight in weights)
