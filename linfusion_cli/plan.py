"""What will be done: stages, steps, bands, number format, memory and time; arithmetic only, before any weight loads."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from linfusion_cli.architecture import FAMILIES, Architecture, Cost, read_architecture, unet_cost, vae_cost
from linfusion_cli.errors import OutOfMemoryError
from linfusion_cli.geometry import MULTIPLE_PX, Size, base_size, nearest_size, stage_sizes
from linfusion_cli.images import fitting_note
from linfusion_cli.job import Job
from linfusion_cli.machine import Machine
from linfusion_cli.models import builtin_folder

BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2}
BAND_AREA_PX = {"cpu": 1 << 17, "cuda": 1 << 23, "mps": 1 << 21}  # of the autoencoder's bands: those of a CPU stay in its caches
SMALLEST_BAND_PX = 8
BAND_HALVINGS = 6  # how often a plan that does not fit tries bands half as high
UNET_BAND_AREA = {"cpu": 1 << 13, "cuda": 1 << 18, "mps": 1 << 16}  # in latents
# The interpreter with torch and diffusers, and what allocators keep beyond live tensors; measured, see docs/log.md.
RUNTIME_BYTES = {"cpu": 640e6, "cuda": 500e6, "mps": 800e6}
OVERHEAD = 1.15
# Multiply-adds per second that convolutions reach: per core on a CPU, in all on an accelerator.
MACS_PER_SECOND = {"cpu": 15e9, "cuda": 60e12, "mps": 3e12}
LOAD_SECONDS = 7.0


@dataclass(frozen=True, slots=True)
class Bands:
    """Heights of a stage's bands: of the UNet in rows of latents (0 = the whole picture at once), of the autoencoder in rows of pixels."""

    unet_latent: int
    vae_px: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the progressive upscale; sizes in pixels, ratio and dilation against stage 0.

    attention: "linear" or "softmax" self-attention in the UNet
    canvas: what is computed; the size, and beyond its right and lower edge the overscan, which is cut off.
    """

    index: int
    size: Size
    canvas: Size
    ratio: float
    dilation: int
    strength: float
    steps: int
    guided_steps: int
    dilated_steps: int
    attention: str
    bands: Bands


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """One thing to do. `total` counts `unit` ("steps" or "rows"); memory is the process's peak while it runs."""

    name: str
    stage: int
    total: int
    unit: str
    macs: float
    peak_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A job made definite on a machine."""

    job: Job
    machine: Machine
    stages: tuple[Stage, ...]
    phases: tuple[Phase, ...]
    dtype: str
    attention: str
    budget_bytes: int
    notes: tuple[str, ...]

    @property
    def peak_bytes(self) -> int:
        return max(phase.peak_bytes for phase in self.phases)

    @property
    def seconds(self) -> float:
        return sum(phase.seconds for phase in self.phases)

    def as_dict(self) -> dict[str, Any]:
        """The plan for JSON."""
        return {
            "size": str(self.job.size),
            "device": self.machine.device,
            "device_name": self.machine.device_name,
            "dtype": self.dtype,
            "attention": self.attention,
            "budget_bytes": self.budget_bytes,
            "peak_bytes": self.peak_bytes,
            "seconds": round(self.seconds, 1),
            "stages": [{**asdict(stage), "size": str(stage.size), "canvas": str(stage.canvas)} for stage in self.stages],
            "phases": [asdict(phase) for phase in self.phases],
            "notes": list(self.notes),
        }


def make_plan(job: Job, machine: Machine) -> Plan:
    """Chooses number format and band height for the budget.

    Raises OutOfMemoryError, with the smallest budget that would do, if nothing fits.
    """
    plans = _plans(job, machine)
    fitting = next((plan for plan in plans if plan.peak_bytes <= plan.budget_bytes), None)
    return fitting or _refuse(plans[-1])


def _plans(job: Job, machine: Machine) -> list[Plan]:
    """Every way to do the job, the fastest first: each has bands half as high as the one before."""
    dtype, architecture = _dtype(job, machine), _architecture(job)
    ways = [plan_stages(job, machine, halvings) for halvings in range(BAND_HALVINGS)]
    if machine.kind != "cpu" or job.settings.model.attention == "softmax":  # else bands are as fast as the whole picture
        ways = [_whole(ways[0])] + (ways if job.settings.model.attention == "linear" else [_whole(way) for way in ways])
    return [
        Plan(
            job=job,
            machine=machine,
            stages=stages,
            phases=tuple(_phases(job, machine, stages, architecture, dtype)),
            dtype=dtype,
            attention=job.settings.model.attention,
            budget_bytes=job.max_memory_bytes or machine.free_bytes,
            notes=_notes(job),
        )
        for stages in ways
    ]


def plan_stages(job: Job, machine: Machine, halvings: int = 0) -> tuple[Stage, ...]:
    """Sizes, steps and bands of every stage; `halvings` makes the bands so many times half as high."""
    settings = job.settings
    sizes = stage_sizes(job.size, _first_area_px(job), settings.upscale.factor)
    base = base_size(job.size, settings.model.train_size_px**2)
    bands = [_bands(size, machine, halvings) for size in sizes]
    return tuple(_stage(job, index, size, base, len(sizes) - 1, bands[index]) for index, size in enumerate(sizes))


def _first_area_px(job: Job) -> float:
    """The area of stage 0: the model's, or the picture's to upscale where the stage after it is large enough for the model."""
    train = job.settings.model.train_size_px**2
    if job.start is None or job.start.refined:
        return train
    given = job.start.image.size
    scale = min(given.width / job.size.width, given.height / job.size.height)  # what stands over is cut off
    return max(scale**2 * job.size.area, train / job.settings.upscale.factor**2)


def _first_strength(job: Job) -> float:
    """How much of the steps stage 0 runs: all from noise, some from a picture to redraw, none from one to upscale."""
    if job.start is None:
        return 1.0
    return job.settings.sampling.init_strength if job.start.refined else 0.0


def _bands(size: Size, machine: Machine, halvings: int) -> Bands:
    unet = max(1, UNET_BAND_AREA[machine.kind] // size.latent().width >> halvings)
    vae = max(SMALLEST_BAND_PX, BAND_AREA_PX[machine.kind] // size.width >> halvings)
    return Bands(min(unet, size.latent().height), min(vae, size.height))


def _whole(stages: tuple[Stage, ...]) -> tuple[Stage, ...]:
    """The same with the UNet's whole picture at once; softmax attention knows no other way."""
    return tuple(replace(stage, bands=replace(stage.bands, unet_latent=0)) for stage in stages)


def steps_run(steps: int, strength: float) -> int:
    """How many of `steps` a stage of that strength runs: rounded up, but not by the dust of floating point; at least one."""
    return max(1, min(steps, math.ceil(steps * strength - 1e-4)))


def _stage(job: Job, index: int, size: Size, base: Size, last: int, bands: Bands) -> Stage:
    sampling, upscale = job.settings.sampling, job.settings.upscale
    strength = _first_strength(job) if index == 0 else upscale.strength * (1 - (index - 1) / last)  # linear, as the official code
    steps = steps_run(sampling.steps, strength) if strength else 0
    times = [strength * (1 - step / steps) for step in range(steps)]  # t / T at each step
    low, high = sampling.guidance_interval
    guided = sum(low <= time <= high for time in times) if sampling.guidance_scale != 1 else 0
    ratio = max(size.width / base.width, size.height / base.height)
    dilation = max(1, round(ratio))
    weights = [(0.5 * (1 + math.cos(math.pi * (1 - time)))) ** upscale.dilated_exponent for time in times]
    dilated = sum(weight >= upscale.dilated_cutoff for weight in weights) if dilation > 1 else 0
    overscan = upscale.overscan_px if index and upscale.between == "pixel" else 0
    return Stage(
        index=index,
        size=size,
        canvas=Size(size.width + overscan, size.height + overscan),
        ratio=ratio,
        dilation=dilation,
        strength=strength,
        steps=steps,
        guided_steps=guided,
        dilated_steps=dilated,
        attention=job.settings.model.attention if index else job.settings.model.base_attention,
        bands=bands,
    )


def _architecture(job: Job) -> Architecture:
    """The shapes of a model that is a folder here, else those of its family."""
    for place in job.settings.model.repositories:
        folder = builtin_folder(place) or Path(place).expanduser()
        if (folder / "unet" / "config.json").is_file():
            return read_architecture(folder)
    return FAMILIES[job.settings.model.family]


def _dtype(job: Job, machine: Machine) -> str:
    if job.dtype != "auto":
        return job.dtype
    model = job.settings.model
    return model.dtype_cuda if machine.kind == "cuda" else model.dtype_cpu


def _phases(job: Job, machine: Machine, stages: tuple[Stage, ...], architecture: Architecture, dtype: str) -> list[Phase]:
    number_bytes = BYTES_OF[dtype]
    parameters = architecture.unet.parameters + architecture.unet.linear_parameters + architecture.vae.parameters + architecture.text_parameters
    floor = RUNTIME_BYTES[machine.kind] + parameters * number_bytes
    rate = MACS_PER_SECOND[machine.kind] * (machine.cores if machine.kind == "cpu" else 1)
    linear = job.settings.model.attention == "linear"
    pixel = job.settings.upscale.between == "pixel"
    between_bytes = 0

    def phase(name: str, stage: Stage, total: int, unit: str, cost: Cost, passes: float = 1) -> Phase:
        peak = floor + OVERHEAD * (cost.live * number_bytes + between_bytes)
        seconds = cost.macs * passes / rate
        return Phase(name=name, stage=stage.index, total=total, unit=unit, macs=cost.macs * passes, peak_bytes=int(peak), seconds=seconds)

    phases = [Phase(name="load", stage=0, total=1, unit="steps", macs=0, peak_bytes=int(floor), seconds=LOAD_SECONDS)]
    for stage in stages:
        picture, last = stage.canvas, stage is stages[-1]
        between_bytes = 8 * 16 * picture.area // MULTIPLE_PX**2  # latents, noise and their copies
        given = stage.index == 0 and job.start is not None
        if (stage.index and pixel) or given:
            phases.append(phase("encode", stage, picture.height, "rows", vae_cost(architecture.vae, picture, stage.bands.vae_px, encode=True)))
        if not stage.steps:
            continue
        passes = stage.steps + stage.guided_steps + stage.dilated_steps * (1 + stage.guided_steps / stage.steps)
        phases.append(
            phase("denoise", stage, stage.steps, "steps", unet_cost(architecture.unet, picture.latent(), stage.bands.unet_latent, linear=linear), passes)
        )
        if last or pixel:
            between_bytes += 0 if last else picture.area * 3 * 4
            phases.append(phase("decode", stage, picture.height, "rows", vae_cost(architecture.vae, picture, stage.bands.vae_px, encode=False)))
    return phases


def _notes(job: Job) -> tuple[str, ...]:
    """What is done to the pictures that the user brings."""
    starts = [(job.start.image, job.start.flag)] if job.start else []
    given = [*starts, *((image, "--control-image") for image in job.control_images)]
    fitted = [fitting_note(image, flag, job.size) for image, flag in given]
    images = [image for image, _ in given] + list(job.ip_images)
    return tuple(note for note in (*fitted, *(note for image in images for note in image.notes)) if note)


def _refuse(plan: Plan) -> NoReturn:
    job, machine = plan.job, plan.machine
    needed = f"{math.ceil(plan.peak_bytes / 1e8) / 10:.1f}"
    what = f"{job.size} needs about {needed} GB with preset {job.preset} in {plan.dtype}"
    smaller = f"a smaller picture ({fitting} fits)" if (fitting := _largest_fitting(plan)) else "a smaller model: no size fits"
    if job.max_memory_bytes:
        raise OutOfMemoryError(f"{what}; --max-memory allows {plan.budget_bytes / 1e9:.1f} GB. Nearest: --max-memory {needed}GB, or {smaller}")
    raise OutOfMemoryError(f"{what}; {machine.device} has {plan.budget_bytes / 1e9:.1f} GB free. Nearest: {smaller}")


def _largest_fitting(plan: Plan) -> Size | None:
    """The largest size of the same aspect whose plan keeps the budget, to a tenth."""
    whole = plan.job.size
    for power in range(1, 60):  # to a thousandth of the sides
        size = nearest_size(Size(int(whole.width * 0.9**power), int(whole.height * 0.9**power)))
        smaller = _plans(replace(plan.job, size=size), plan.machine)[-1]
        if smaller.peak_bytes <= smaller.budget_bytes:
            return size
    return None
