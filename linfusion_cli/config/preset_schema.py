"""The sections of a preset with the types of their keys; ranges and words come from the tables of keys and options."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic.fields import FieldInfo

from linfusion_cli.config.choices import (
    CONTROL_MODES,
    Attention,
    Between,
    Dtype,
    Family,
    Padding,
    Prediction,
    Preprocess,
    Resize,
    Scheduler,
    SigmaSchedule,
    StorePrompt,
    TimestepSpacing,
    Variant,
)
from linfusion_cli.config.preset_keys import preset_key
from linfusion_cli.config.value_range import Range
from linfusion_cli.config.weighted_lora import HEAVIEST, WeightedLora
from linfusion_cli.errors import UsageError

BUILTIN_PREFIX = "builtin:"
BUILTIN = "builtin:landscape"


def _key(name: str) -> Any:
    """The field of a key: its limits, and what to write in words."""
    row = preset_key(name)
    limits: dict[str, Any] = {"description": row.description}
    if row.is_list:
        limits |= {"strict": False, "min_length": 1 if row.range else row.least_items}
    elif row.range:
        limits |= {"gt" if row.range.above else "ge": row.range.low, "le": row.range.high}
        limits |= {"multiple_of": row.range.multiple_of} if row.range.multiple_of > 1 else {}
    return Field(**limits)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class ModelSettings(_Section):
    """Which weights, and how they compute. presets/defaults.toml says what each key means, for every section."""

    family: Family
    repositories: tuple[str, ...] = _key("model.repositories")
    revision: str = _key("model.revision")
    variant: Variant
    linfusion: tuple[str, ...] = _key("model.linfusion")
    keep_projections: bool = _key("model.keep_projections")
    unet: str = _key("model.unet")
    vae: str = _key("model.vae")
    vae_float16: str = _key("model.vae_float16")
    configs: str = _key("model.configs")
    prediction: Prediction
    train_size_px: int = _key("model.train_size_px")
    attention: Attention
    base_attention: Attention
    dtype_cuda: Dtype
    dtype_cpu: Dtype
    loras: tuple[str, ...] = _key("model.loras")

    @field_validator("repositories", "linfusion")
    @classmethod
    def _known_locations(cls, locations: tuple[str, ...]) -> tuple[str, ...]:
        for location in locations:
            if not location.strip() or (location.startswith(BUILTIN_PREFIX) and location != BUILTIN):
                raise ValueError(f'a hub name, a folder or "{BUILTIN}"')
        return locations

    @field_validator("loras")
    @classmethod
    def _weighted(cls, loras: tuple[str, ...]) -> tuple[str, ...]:
        for lora in loras:
            try:
                WeightedLora.parse(lora)
            except UsageError as error:
                raise ValueError(
                    f"LOCATION[:WEIGHT][@base|@upscale], a weight from {-HEAVIEST:g} to {HEAVIEST:g}"
                ) from error
        return loras


class SamplingSettings(_Section):
    """How stage 0 is drawn."""

    scheduler: Scheduler
    sigma_schedule: SigmaSchedule
    timestep_spacing: TimestepSpacing
    steps: int = _key("sampling.steps")
    guidance_scale: float = _key("sampling.guidance_scale")
    guidance_interval: tuple[float, float] = Field(
        strict=False, description=preset_key("sampling.guidance_interval").description
    )
    guidance_low: float = _key("sampling.guidance_low")
    guidance_high: float = _key("sampling.guidance_high")
    negative_prompt: str = _key("sampling.negative_prompt")
    init_strength: float = _key("sampling.init_strength")
    eta: float = _key("sampling.eta")

    @property
    def guidance(self) -> float:
        """The scale that is used: from 1, which is none; below, other tools mean the same."""
        return max(1.0, self.guidance_scale)

    @property
    def guidance_bands(self) -> tuple[float, float]:
        """The scales of coarse shapes and of fine detail in upscale stages."""
        return self.guidance_low or self.guidance, self.guidance_high or self.guidance

    @field_validator("guidance_interval")
    @classmethod
    def _in_order(cls, interval: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= interval[0] <= interval[1] <= 1:
            raise ValueError("out of order")
        return interval


class UpscaleSettings(_Section):
    """How each later stage grows out of the one before."""

    factor: float = _key("upscale.factor")
    strength: float = _key("upscale.strength")
    skip_exponent: float = _key("upscale.skip_exponent")
    dilated_exponent: float = _key("upscale.dilated_exponent")
    lowpass_exponent: float = _key("upscale.lowpass_exponent")
    lowpass_sigma: float = _key("upscale.lowpass_sigma")
    dilated_cutoff: float = _key("upscale.dilated_cutoff")
    lowpass_padding: Padding
    between: Between
    resize: Resize
    overscan_px: int = _key("upscale.overscan_px")
    overscan_all_sides: bool = _key("upscale.overscan_all_sides")
    match_statistics: bool = _key("upscale.match_statistics")
    frequency_mixing: bool = _key("upscale.frequency_mixing")
    structure_guidance: float = _key("upscale.structure_guidance")
    structure_scale: float = _key("upscale.structure_scale")
    edge_noise: float = _key("upscale.edge_noise")
    vae_window_latents: int = _key("upscale.vae_window_latents")
    early_end: float = _key("upscale.early_end")


class ExtrasSettings(_Section):
    """What a user brings along on top of the model."""

    loras: tuple[str, ...] = _key("extras.loras")
    textual_inversions: tuple[str, ...] = _key("extras.textual_inversions")
    clip_skip: int = _key("extras.clip_skip")
    prompt_weights: bool = _key("extras.prompt_weights")
    controlnets: tuple[str, ...] = _key("extras.controlnets")
    control_scales: tuple[float, ...] = _key("extras.control_scales")
    control_ends: tuple[float, ...] = _key("extras.control_ends")
    control_modes: tuple[str, ...] = _key("extras.control_modes")
    control_preprocess: Preprocess
    ip_adapter: str = _key("extras.ip_adapter")
    ip_encoder: str = _key("extras.ip_encoder")
    ip_scale: float = _key("extras.ip_scale")

    @field_validator("control_scales", "control_ends")
    @classmethod
    def _in_range(cls, values: tuple[float, ...], info: ValidationInfo) -> tuple[float, ...]:
        allowed = _range(f"extras.{info.field_name}")
        if not all(value in allowed for value in values):
            raise ValueError(allowed.ends)
        return values

    @field_validator("control_modes")
    @classmethod
    def _known_modes(cls, modes: tuple[str, ...]) -> tuple[str, ...]:
        if not modes or not all(mode in CONTROL_MODES for mode in modes):
            raise ValueError("one of " + ", ".join(CONTROL_MODES))
        return modes


class OutputSettings(_Section):
    """The size and the name of the file."""

    size: str = _key("output.size")
    name: str = _key("output.name")
    store_prompt: StorePrompt


@cache
def _range(key: str) -> Range:
    """The allowed values of a key that has some; looked up once, not for each prompt of a list."""
    return cast("Range", preset_key(key).range)


class Preset(_Section):
    """Every setting of an image, complete: no value means "default"."""

    model: ModelSettings
    sampling: SamplingSettings
    upscale: UpscaleSettings
    extras: ExtrasSettings
    output: OutputSettings

    @property
    def loras(self) -> tuple[str, ...]:
        """The model's own, then the user's."""
        return (*self.model.loras, *self.extras.loras)


@cache
def schema() -> Mapping[str, FieldInfo]:
    """Every key ("sampling.steps") with its field, in the order of the file."""
    found: dict[str, FieldInfo] = {}
    for section, holder in Preset.model_fields.items():
        for name, info in cast(type[BaseModel], holder.annotation).model_fields.items():
            found[f"{section}.{name}"] = info
    return found
