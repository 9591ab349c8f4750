"""What will be done: stages, steps, bands, number format, memory and time; arithmetic only, before any weight loads."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from linfusion_cli.config.input_images import fitting_note
from linfusion_cli.config.job import Job
from linfusion_cli.config.preset_schema import ModelSettings
from linfusion_cli.config.rank_options import checked_shares
from linfusion_cli.errors import Message, Option, OutOfMemoryError, OutputError, UsageError, option
from linfusion_cli.files import free_bytes, user_path
from linfusion_cli.geometry import Size, base_size, nearest_size
from linfusion_cli.planning.cost_estimate import NEARLY_AS_FAST, OVERHEAD, Estimate, Phase
from linfusion_cli.planning.engine_inputs import (
    components,
    conditioning_inputs,
    control_inputs,
    preview_settings,
    sampler_settings,
    stage_join,
    upscale_recipe,
)
from linfusion_cli.planning.few_step import few_step_note
from linfusion_cli.planning.foreign_start import foreign_start_note
from linfusion_cli.planning.input_check import check_inputs
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.kernel_choice import kernels_of
from linfusion_cli.planning.model_shapes import (
    Architecture,
    VaeShape,
    read_architecture,
    read_on_top,
    read_vae,
    with_controlnets,
)
from linfusion_cli.planning.number_format import dtype_of, format_notes
from linfusion_cli.planning.prompt_notes import prompt_notes
from linfusion_cli.planning.rank_share import for_ranks
from linfusion_cli.planning.rank_speeds import shares_by_speed, shares_notes
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.planning.tile_note import is_upscaled, tile_note
from linfusion_cli.planning.unet_cost import largest_whole_values
from linfusion_cli.planning.upscale_schedule import Stage, plan_stages
from linfusion_cli.planning.weights_notes import weights_notes
from linfusion_cli.system.device import Machine

BAND_HALVINGS = 7  # how often a plan that does not fit tries bands half as high
HALF = "bfloat16"  # as wide as float32, in half of its memory
MOST_VALUES = 1 << 31  # of a tensor: convolutions of GPUs index with 32 bits (pytorch #95024, #117736)
SHARE_OF_DEVICE = 0.95  # of what is free on a GPU: its driver and the screen take some more on the way
SHARE_OF_RAM = 0.5  # of what is free of it may wait there for an accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan(RenderPlan):
    """A RenderPlan and the job that it was made for, whose output and presets the engine has no use for."""

    job: Job


def make_plan(job: Job, machine: Machine, *, keep_text_encoders: bool = False, ranks: int = 1) -> Plan:
    """Chooses bands, and where activations wait between their sweeps, for the budget.

    Of the plans that are nearly the fastest on such a kind of device, the one with the highest bands is taken; its
    times are those of this machine. keep_text_encoders: the text and image encoders stay loaded, for the next image.
    ranks: that make the image together; the plan's memory is that of one of them, its bands are for all.
    Raises OutOfMemoryError, with the smallest budget that would do, if no plan fits; UsageError for shares of rows that
    are not as many as ranks.
    """
    checked_shares(job.rank_options.shares, ranks)
    disk, weights, dtype = free_bytes(job.scratch_folder), JobWeights.of(job), dtype_of(job, machine)
    check_inputs(job, weights)
    if ranks > 1 and not _architecture(job, weights).unet.bandable:
        raise UsageError(
            f"{ranks}: this UNet has blocks that can't run in bands, and ranks divide bands. Nearest: 1",
            parameter="ranks",
        )
    by_speed = () if job.rank_options.shares else shares_by_speed(machine.rank_devices, dtype)
    estimate = Estimate(
        job,
        _for_choices(machine, dtype),
        _architecture(job, weights),
        dtype,
        disk_bytes=disk,
        keep_text_encoders=keep_text_encoders,
        ranks=ranks,
        rank_shares=job.rank_options.shares or by_speed,
    )
    fitting = list(_fitting(estimate, weights))
    if not fitting:
        _refuse(estimate)
    if not (on_disk := [plan for plan in fitting if plan.file_bytes <= disk]):
        _refuse_disk(fitting, disk)
    fitting = on_disk
    fastest = min(plan.seconds for plan in fitting)
    chosen = next(plan for plan in fitting if plan.seconds <= NEARLY_AS_FAST * fastest)  # the highest bands come first
    notes = (*chosen.notes, *shares_notes(machine.rank_devices, by_speed))
    return replace(chosen, machine=machine, phases=_timed(chosen, estimate, machine), notes=notes)


def _timed(chosen: Plan, estimate: Estimate, machine: Machine) -> tuple[Phase, ...]:
    """The phases of a plan with the times of the machine as it was measured."""
    own = replace(estimate, machine=machine, resident=chosen.weights_resident).within(chosen.budget_bytes)
    return own.phases(chosen.stages, chosen.store_budget)


def _for_choices(machine: Machine, dtype: str) -> Machine:
    """The machine with the speed that decides bands and memory."""
    return replace(machine, speeds={dtype: machine.speed(dtype).for_choices(machine.kind, machine.cores)})


def _fitting(whole: Estimate, weights: JobWeights) -> Iterator[Plan]:
    """The ways to do the job that its memory allows, the highest bands first.

    Once everything waits on the device itself, lower bands and streamed weights can only be slower: no more are tried.
    """
    budget = _budget_bytes(whole)
    for resident in (True,) if whole.machine.unified else (True, False):
        estimate = replace(whole, resident=resident).within(budget)
        for ways in _ways(estimate):
            plans = [
                _plan(estimate, stages, narrowest, budget, weights)
                for stages in ways
                if (narrowest := estimate.least_bytes(stages)) <= budget
            ]
            fitting = [plan for plan in plans if plan.peak_bytes <= budget]
            yield from fitting
            if any(plan.ram_bytes == plan.file_bytes == 0 for plan in fitting):
                return


def _plan(
    estimate: Estimate, stages: tuple[Stage, ...], narrowest_bytes: float, budget: int, weights: JobWeights
) -> Plan:
    """A plan of these stages; what waits may take what the budget leaves beside the narrowest way."""
    job, machine = estimate.job, estimate.machine
    memory = 0 if machine.unified else max(0.0, SHARE_OF_RAM * machine.ram_bytes - estimate.model.pinned)
    store_budget = estimate.budget(max(0.0, (budget - narrowest_bytes) / OVERHEAD), memory)
    kept = tuple(estimate.with_cheapest_keep(stage, last=stage is stages[-1], budget=store_budget) for stage in stages)
    return Plan(
        job=job,
        size=job.size,
        seed=job.seed,
        stages=kept,
        components=components(job, estimate.dtype, machine.device, kept, weights),
        conditioning=conditioning_inputs(job),
        sampler=sampler_settings(job),
        recipe=upscale_recipe(job),
        join=stage_join(job),
        start=job.start,
        controls=control_inputs(job),
        conditioned_size=base_size(job.size, job.settings.model.train_size_px**2),
        machine=machine,
        phases=estimate.phases(kept, store_budget),
        dtype=estimate.dtype,
        attention=job.settings.model.attention,
        kernels=kernels_of(job, machine),
        scores_limited=estimate.keeps_scores,
        store_budget=store_budget,
        weights_resident=estimate.resident,
        keep_text_encoders=estimate.keep_text_encoders,
        components_stay=estimate.components_stay,
        budget_bytes=budget,
        notes=(*_notes(job, estimate.architecture, weights), *format_notes(job, machine), *machine.notes),
        row_bits=job.file.row_bits,
        preview=preview_settings(job),
        ranks=estimate.ranks,
        rank_shares=estimate.rank_shares,
    )


def _ways(estimate: Estimate) -> Iterator[list[tuple[Stage, ...]]]:
    """For each height of bands: the UNet in bands, and on the whole image at once, where these make sense."""
    job, machine, architecture = estimate.job, estimate.machine, estimate.architecture
    levels, bandable = len(architecture.vae.channels), architecture.unet.bandable
    bands_alone = bandable and (
        estimate.ranks > 1  # which divide the bands
        or (machine.kind == "cpu" and job.settings.model.attention == "linear")  # there as fast as the whole image
    )
    for halvings in range(BAND_HALVINGS):
        stages = plan_stages(job, machine.kind, halvings, levels)
        if architecture.unet.told_guidance:
            stages = tuple(replace(stage, guided_steps=0) for stage in stages)
        if estimate.ranks > 1:
            stages = tuple(for_ranks(stage, estimate.ranks) for stage in stages)
        whole = tuple(_on_the_whole_image(stage, estimate) for stage in stages)
        first_whole = (whole[0], *stages[1:])  # small: its many bands would cost a GPU more than their work
        at_once = estimate.resident and not bands_alone  # weights are streamed layer by layer, in bands only
        mixed = at_once and bandable and machine.kind != "cpu"
        yield [first_whole] * mixed + [stages] * bandable + [whole] * at_once


def _on_the_whole_image(stage: Stage, estimate: Estimate) -> Stage:
    """The stage with the UNet on the whole image at once, unless that makes tensors too large for a GPU's layers."""
    unet, kind = estimate.architecture.unet, estimate.machine.kind
    too_large = kind != "cpu" and largest_whole_values(unet, stage.canvas.latent(), 2) >= MOST_VALUES
    return stage if too_large and unet.bandable else replace(stage, bands=replace(stage.bands, unet_latent=0))


def architecture_of(job: Job) -> Architecture:
    """The shapes of a job's model, as make_plan() takes them."""
    return _architecture(job, JobWeights.of(job))


def _architecture(job: Job, weights: JobWeights) -> Architecture:
    """The shapes of a model that is on this machine, else of its family; with its VAE and what is mounted on it."""
    model = job.settings.model
    configs = user_path(model.configs) if model.configs else None
    known = read_architecture(weights.model, model.family, weights.linfusion, weights.unet, configs)
    staged = [file for lora, file in weights.named_loras if lora.stages]
    beside = [file for lora, file in weights.named_loras if not lora.stages]
    on_top = read_on_top(beside, weights.ip_adapter, weights.ip_encoder, staged)
    shape = with_controlnets(known.unet, weights.controlnets)
    return replace(known, unet=shape, vae=_vae(model, weights, known.vae), on_top=on_top)


def _vae(model: ModelSettings, weights: JobWeights, own: VaeShape) -> VaeShape:
    """The VAE that is used: one for every number format, or one for float16 alone."""
    other = weights.vae or weights.vae_float16
    found = other.path if other is not None else None
    folder = found / "vae" if found is not None and (found / "vae").is_dir() else found
    if folder is not None and (folder / "config.json").is_file():
        named = read_vae(folder, other.headers if other is not None else (), own)
        return named if model.vae else replace(own, upcast=named.upcast)
    return replace(own, upcast=own.upcast and not model.vae_float16)


def _notes(job: Job, architecture: Architecture, weights: JobWeights) -> tuple[str, ...]:
    """What the user would not expect: how images are fitted, and that an unusual UNet needs more memory."""
    starts = [(job.start.image, job.start.parameter)] if job.start else []
    shown = [image for image in job.control_images if not is_upscaled(job, image)]
    given = [*starts, *((image, "control_images") for image in shown)]
    fitted = [fitting_note(image, parameter, job.size) for image, parameter in given]
    images = [image for image, _ in given] + list(job.ip_images)
    whole = (
        ""
        if architecture.unet.bandable
        else "this UNet has blocks that can't run in bands: every step computes the whole image at once"
    )
    held = job.file.held_bytes(job.size)
    writer = f"a {job.file.format.title} needs the whole image: {held / 1e9:.1f} GB while it is written" if held else ""
    scale = job.settings.sampling.guidance_scale
    told_scale = (
        "this UNet is told the guidance scale (a latent consistency model): the negative prompt, guidance_interval and "
        "guidance_low and guidance_high are not used"
        if architecture.unet.told_guidance
        else ""
    )
    low = "" if scale >= 1 else f"guidance {scale:g} means 1: no guidance, and the negative prompt is not used"
    few = few_step_note(job, weights, told_guidance=architecture.unet.told_guidance)
    of_images = [*fitted, _shrunk_note(job), *(note for image in images for note in image.notes)]
    of_files = (foreign_start_note(job), tile_note(job), _ending_note(job))
    of_options = (*of_files, low, _clip_skip_note(job), told_scale, few, whole, writer)
    return tuple(
        note for note in (*prompt_notes(job, weights), *weights_notes(job, weights), *of_options, *of_images) if note
    )


def _ending_note(job: Job) -> str:
    """A file that was named without an ending is a PNG of a longer name."""
    if not job.ending_added:
        return ""
    name = job.output.name
    return Message(f"the name has no ending: the image is {name}. Another format: give .jpg or ", option("format"))


def _shrunk_note(job: Job) -> str:
    """That an image to start from loses its detail, where it is larger than stage 0."""
    base = base_size(job.size, job.settings.model.train_size_px**2)
    image = job.start.image if job.start is not None and job.start.refined else None
    if image is None or image.size.area <= base.area:
        return ""
    return Message(
        option("init_image"),
        f" {image.path.name} has {image.size} pixels, and stage 0 draws it at {base}: the finer detail is lost. "
        "The command upscale keeps it",
    )


def _clip_skip_note(job: Job) -> str:
    """That 1 leaves out nothing: in diffusers, and here once, it leaves out one layer."""
    if job.settings.extras.clip_skip or not isinstance(job.sources["extras.clip_skip"], Option):
        return ""
    return Message("clip skip 1, as A1111 counts, leaves out no layer; ", option("clip_skip", 2), " leaves out one")


def _refuse_disk(plans: list[Plan], disk: int) -> NoReturn:
    least = min(plans, key=lambda plan: plan.file_bytes)
    raise OutputError(
        f"{least.job.size} in {least.budget_bytes / 1e9:.1f} GB of memory needs {least.file_bytes / 1e9:.1f} GB of "
        f"scratch files; {least.job.scratch_folder.resolve()} has {disk / 1e9:.1f} GB free. "
        "Give another folder with ",
        option("scratch"),
        ", or more ",
        option("max_memory"),
    )


def _refuse(estimate: Estimate) -> NoReturn:
    """Raises OutOfMemoryError that says what is needed and what would fit."""
    job, machine, budget = estimate.job, estimate.machine, _budget_bytes(estimate)
    has = round(budget / 1e9, 1) or round(budget / 1e9, 3)
    needed = _gigabytes(_least_bytes(estimate))
    what = f"{job.size} needs about {needed} GB with preset {job.preset} in {estimate.dtype}"
    may_halve = estimate.dtype == "float32" and machine.bfloat16
    half = _least_bytes(replace(estimate, dtype=HALF)) if may_halve else math.inf
    narrower = (option("dtype", HALF), f" (about {_gigabytes(half)} GB), ") if half <= budget else ()
    smaller = (
        f"a smaller image ({fitting} fits)"
        if (fitting := _largest_fitting(estimate))
        else "a smaller model: no size fits"
    )
    if machine.limited_by and (job.max_memory_bytes or math.inf) >= machine.limit_bytes:
        limit = f"the limit {machine.limited_by} leaves {has} GB. Raise it. Nearest: "
        raise OutOfMemoryError(f"{what}; {limit}", *narrower, smaller)
    if job.max_memory_bytes:
        raise OutOfMemoryError(
            f"{what}; ",
            option("max_memory"),
            f" allows {has} GB. Nearest: ",
            option("max_memory", f"{needed}GB"),
            ", ",
            *narrower,
            f"or {smaller}",
        )
    raise OutOfMemoryError(f"{what}; {machine.device} has {has} GB free. Nearest: ", *narrower, smaller)


def _gigabytes(size: float) -> str:
    """Rounded up to a tenth: so much would do."""
    return f"{math.ceil(size / 1e8) / 10:.1f}"


def usable_bytes(machine: Machine) -> int:
    """How much of what is free on the device a plan may take."""
    return machine.free_bytes if machine.kind == "cpu" else int(SHARE_OF_DEVICE * machine.free_bytes)


def _budget_bytes(estimate: Estimate) -> int:
    asked = estimate.job.max_memory_bytes or usable_bytes(estimate.machine)
    return min(asked, estimate.machine.limit_bytes or sys.maxsize)


def _least_bytes(estimate: Estimate) -> float:
    """The smallest budget: the lowest bands, everything waits in files, on a disk that is large enough."""
    resident = estimate.machine.unified or not estimate.architecture.unet.bandable
    least = replace(estimate, resident=resident, disk_bytes=math.inf)
    *_, lowest = _ways(least)
    return min(least.least_bytes(stages) for stages in lowest)


def _largest_fitting(estimate: Estimate) -> Size | None:
    """The largest size of the same aspect that the budget allows, to a tenth."""
    wanted = estimate.job.size
    for power in range(1, 60):  # to a thousandth of the sides
        size = nearest_size(Size(int(wanted.width * 0.9**power), int(wanted.height * 0.9**power)))
        if _least_bytes(replace(estimate, job=replace(estimate.job, size=size))) <= _budget_bytes(estimate):
            return size
    return None
