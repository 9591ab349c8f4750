"""Turns a job into what the engine is told of it: words, sampler, upscale recipe and images."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, TypeVar, cast

from linfusion_cli.config.extras import each, inversion
from linfusion_cli.config.job import Job
from linfusion_cli.config.preset_schema import BUILTIN_PREFIX
from linfusion_cli.config.prompt_weighting import parse_weights, plain_text
from linfusion_cli.files import user_path
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.render_plan import (
    ComponentInputs,
    ConditioningInputs,
    ControlInput,
    InversionInput,
    LoraInput,
    PreviewSettings,
    SamplerSettings,
    StageJoin,
    UpscaleRecipe,
)
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.weights.controlnet_union import MODE_NUMBERS
from linfusion_cli.weights.families import BUILTIN_COLORS, FAMILY_ROWS

if TYPE_CHECKING:
    from pydantic import BaseModel

Inputs = TypeVar("Inputs")
IMAGE_SECTIONS = {"sampling", "upscale", "output"}  # settings that no loading depends on


def components(job: Job, dtype: str, device: str, stages: tuple[Stage, ...], weights: JobWeights) -> ComponentInputs:
    """The weights that a job names, for a number format, a device and the attentions of its stages."""
    model, extras = job.settings.model, job.settings.extras
    tokens = (inversion(text)[1] for text in extras.textual_inversions)
    return ComponentInputs(
        model=weights.model,
        unet=weights.unet,
        family=model.family,
        preset=job.preset,
        configs=user_path(model.configs) if model.configs else None,
        prediction=model.prediction,
        linfusion=weights.linfusion,
        keep_projections=model.keep_projections,
        vae=weights.vae or (weights.vae_float16 if dtype == "float16" else None),
        loras=tuple(LoraInput(file, lora.weight, lora.text_weight, lora.stages) for lora, file in weights.named_loras),
        inversions=tuple(map(InversionInput, weights.inversions, tokens)),
        controlnets=weights.controlnets,
        ip_adapter=weights.ip_adapter,
        ip_encoder=weights.ip_encoder,
        ip_scale=extras.ip_scale,
        cache_key=_cache_key(job, dtype, device, stages),
    )


def _cache_key(job: Job, dtype: str, device: str, stages: tuple[Stage, ...]) -> str:
    """Everything that loading depends on."""
    settings = job.settings.model_dump(mode="json", exclude=IMAGE_SECTIONS)
    attentions = [stage.attention for stage in stages]
    return json.dumps([settings, dict(job.weights), dtype, device, job.kernels, attentions], sort_keys=True)


def conditioning_inputs(job: Job) -> ConditioningInputs:
    """The prompts, parsed where prompt weighting is on. Raises UsageError for broken weights."""
    extras = job.settings.extras
    prompt, negative = job.prompt, job.negative_prompt
    fragments = negative_fragments = None
    if extras.prompt_weights:
        fragments = parse_weights(prompt).fragments
        negative_fragments = parse_weights(negative, "the negative prompt").fragments
        prompt, negative = plain_text(fragments), plain_text(negative_fragments)
    return ConditioningInputs(
        prompt=prompt,
        negative_prompt=negative,
        fragments=fragments,
        negative_fragments=negative_fragments,
        clip_skip=extras.clip_skip,
        images=job.ip_images,
    )


def sampler_settings(job: Job) -> SamplerSettings:
    """The sampler of stage 0 and of every later stage."""
    sampling = job.settings.sampling
    return _from_settings(
        SamplerSettings,
        sampling,
        scheduler=SchedulerChoice.of(sampling.scheduler, sampling.sigma_schedule, sampling.timestep_spacing),
        guidance_scale=sampling.guidance,
        guidance_low=sampling.guidance_bands[0],
        guidance_high=sampling.guidance_bands[1],
    )


def upscale_recipe(job: Job) -> UpscaleRecipe:
    """How later stages mix their branches."""
    return _from_settings(UpscaleRecipe, job.settings.upscale)


def stage_join(job: Job) -> StageJoin:
    """How the image goes from one stage to the next."""
    return _from_settings(StageJoin, job.settings.upscale)


def _from_settings(kind: type[Inputs], settings: BaseModel, **others: object) -> Inputs:
    """A dataclass of the engine's inputs: each field is `others`' or, under its name, that of a preset's section."""
    names = (field.name for field in dataclasses.fields(cast("Any", kind)) if field.name not in others)
    return kind(**{name: getattr(settings, name) for name in names}, **others)


def control_inputs(job: Job) -> tuple[ControlInput, ...]:
    """One input per ControlNet; a single scale or end serves all."""
    extras, count = job.settings.extras, len(job.control_images)
    scales, ends = each(extras.control_scales, count), each(extras.control_ends, count)
    modes = (MODE_NUMBERS.get(mode) for mode in each(extras.control_modes, count))
    return tuple(
        ControlInput(image=image, scale=scale, end=end, preprocess=extras.control_preprocess, mode=mode)
        for image, scale, end, mode in zip(job.control_images, scales, ends, modes, strict=True)
    )


def preview_settings(job: Job) -> PreviewSettings | None:
    """How previews are made; None where nobody asks for them."""
    if job.preview is None:
        return None
    model = job.settings.model
    builtin = model.repositories[0].startswith(BUILTIN_PREFIX)
    colors = BUILTIN_COLORS if builtin else FAMILY_ROWS[model.family].colors
    return PreviewSettings(colors=colors, every=job.preview_every)
