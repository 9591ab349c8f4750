"""Turns a job into what the engine is told of it: words, sampler, upscale recipe and images."""

from __future__ import annotations

import json
from collections.abc import Callable

from linfusion_cli.config.extras import Weighted, each, inversion
from linfusion_cli.config.job import Job
from linfusion_cli.config.prompt_weighting import looks_weighted, parse_weights, plain_text
from linfusion_cli.planning.render_plan import (
    ComponentInputs,
    ConditioningInputs,
    ControlInput,
    InversionInput,
    LoraInput,
    SamplerSettings,
    StageJoin,
    UpscaleRecipe,
)
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.planning.upscale_schedule import Stage
from linfusion_cli.weights.controlnet_union import MODE_NUMBERS
from linfusion_cli.weights.weight_file import WeightFile

# Locations, revision and parameter -> the weights there. A plan looks for each of its weights once.
Resolve = Callable[[tuple[str, ...], str, str], WeightFile]
IMAGE_SECTIONS = {"sampling", "upscale", "output"}  # settings that no loading depends on


def components(
    job: Job, dtype: str, device: str, stages: tuple[Stage, ...], resolve: Resolve = WeightFile.resolve
) -> ComponentInputs:
    """The weights that a job names, for a number format, a device and the attentions of its stages."""
    model, extras = job.settings.model, job.settings.extras
    weighted = tuple(Weighted.parse(text) for text in extras.loras)
    vae = model.vae or (model.vae_float16 if dtype == "float16" else "")

    def one(location: str, parameter: str) -> WeightFile:
        return resolve((location,), "", parameter)

    return ComponentInputs(
        model=resolve(model.repositories, model.revision, "model"),
        unet=one(model.unet, "unet") if model.unet else None,
        variant=model.variant,
        family=model.family,
        preset=job.preset,
        configs=model.configs,
        prediction=model.prediction,
        linfusion=resolve(model.linfusion, "", "linfusion") if model.linfusion else None,
        keep_projections=model.keep_projections,
        vae=one(vae, "vae") if vae else None,
        loras=tuple(LoraInput(one(lora.location, "lora"), lora.weight, lora.text_weight) for lora in weighted),
        inversions=tuple(
            InversionInput(one(location, "textual_inversion"), token)
            for location, token in map(inversion, extras.textual_inversions)
        ),
        controlnets=tuple(one(location, "controlnet") for location in extras.controlnets),
        ip_adapter=one(extras.ip_adapter, "ip_adapter") if extras.ip_adapter else None,
        ip_encoder=one(extras.ip_encoder, "ip_encoder") if extras.ip_encoder else None,
        ip_scale=extras.ip_scale,
        cache_key=_cache_key(job, dtype, device, stages),
    )


def _cache_key(job: Job, dtype: str, device: str, stages: tuple[Stage, ...]) -> str:
    """Everything that loading depends on."""
    settings = job.settings.model_dump(mode="json", exclude=IMAGE_SECTIONS)
    attentions = [stage.attention for stage in stages]
    return json.dumps([settings, dict(job.weights), dtype, device, attentions], sort_keys=True)


def conditioning_inputs(job: Job) -> ConditioningInputs:
    """The prompts, parsed where prompt weighting is on. Raises UsageError for broken weights."""
    extras = job.settings.extras
    prompt, negative = job.prompt, job.negative_prompt
    fragments = negative_fragments = None
    if extras.prompt_weights:
        fragments, negative_fragments = parse_weights(prompt), parse_weights(negative, "the negative prompt")
        prompt, negative = plain_text(fragments), plain_text(negative_fragments)
    return ConditioningInputs(
        prompt=prompt,
        negative_prompt=negative,
        fragments=fragments,
        negative_fragments=negative_fragments,
        unread_weight="" if extras.prompt_weights else looks_weighted(prompt),
        clip_skip=extras.clip_skip,
        images=job.ip_images,
    )


def sampler_settings(job: Job) -> SamplerSettings:
    """The sampler of stage 0 and of every later stage."""
    sampling = job.settings.sampling
    return SamplerSettings(
        scheduler=SchedulerChoice.of(sampling.scheduler, sampling.sigma_schedule, sampling.timestep_spacing),
        steps=sampling.steps,
        guidance_scale=sampling.guidance,
        guidance_interval=sampling.guidance_interval,
        guidance_low=sampling.guidance_bands[0],
        guidance_high=sampling.guidance_bands[1],
    )


def upscale_recipe(job: Job) -> UpscaleRecipe:
    """How later stages mix their branches."""
    upscale = job.settings.upscale
    return UpscaleRecipe(
        skip_exponent=upscale.skip_exponent,
        dilated_exponent=upscale.dilated_exponent,
        lowpass_exponent=upscale.lowpass_exponent,
        lowpass_sigma=upscale.lowpass_sigma,
        dilated_cutoff=upscale.dilated_cutoff,
        lowpass_padding=upscale.lowpass_padding,
        match_statistics=upscale.match_statistics,
        frequency_mixing=upscale.frequency_mixing,
        structure_guidance=upscale.structure_guidance,
        structure_scale=upscale.structure_scale,
        edge_noise=upscale.edge_noise,
    )


def stage_join(job: Job) -> StageJoin:
    """How the image goes from one stage to the next."""
    upscale = job.settings.upscale
    return StageJoin(between=upscale.between, resize=upscale.resize, vae_window_latents=upscale.vae_window_latents)


def control_inputs(job: Job) -> tuple[ControlInput, ...]:
    """One input per ControlNet; a single scale or end serves all."""
    extras, count = job.settings.extras, len(job.control_images)
    scales, ends = each(extras.control_scales, count), each(extras.control_ends, count)
    modes = (MODE_NUMBERS.get(mode) for mode in each(extras.control_modes, count))
    return tuple(
        ControlInput(image=image, scale=scale, end=end, preprocess=extras.control_preprocess, mode=mode)
        for image, scale, end, mode in zip(job.control_images, scales, ends, modes, strict=True)
    )
