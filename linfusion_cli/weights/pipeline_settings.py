"""Settings of a pipeline in diffusers layout (model_index.json): each is used, ignored by rule, or refused by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import JsonError, read_json
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_values import shown

INDEX = "model_index.json"
LARGEST_CONFIG_BYTES = 1 << 20
PIPELINES = (
    "StableDiffusionPipeline",
    "StableDiffusionImg2ImgPipeline",
    "StableDiffusionInpaintPipeline",
    "StableDiffusionXLPipeline",
    "StableDiffusionXLImg2ImgPipeline",
    "StableDiffusionXLInpaintPipeline",
    "LatentConsistencyModelPipeline",
)
# Component -> the classes that linfusion reads in its place. The scheduler's class is looked at with its config.
COMPONENTS: dict[str, tuple[str, ...]] = {
    "unet": ("UNet2DConditionModel",),
    "vae": ("AutoencoderKL",),
    "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
    "text_encoder_2": ("CLIPTextModelWithProjection",),
}
TOKENIZERS = ("tokenizer", "tokenizer_2", "scheduler")  # of these other rules know the classes
# Components that no image depends on: the checker may only blacken an image, IP-Adapters bring their own image encoder.
IGNORED_COMPONENTS = ("safety_checker", "feature_extractor", "image_encoder")
# add_watermarker: an invisible mark that diffusers adds where a library for it is installed.
IGNORED_SETTINGS = ("add_watermarker", "requires_safety_checker")


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """What a pipeline says beside its components.

    force_zeros_for_empty_prompt: SD-XL without a negative prompt is guided away from zeros, not from the empty prompt
    """

    force_zeros_for_empty_prompt: bool = True  # the default of StableDiffusionXLPipeline


def read_pipeline_settings(folder: Path) -> PipelineSettings:
    """The settings of a folder in diffusers layout, all of them checked.

    Raises WeightsError, naming the file and the setting, for another pipeline, for a component or setting that changes
    images in a way that linfusion does not know, and for a file that can't be read.
    """
    path = folder / INDEX
    index = read_json_object(path)
    name = index.get("_class_name", PIPELINES[0])
    if name not in PIPELINES:
        raise WeightsError(
            f"{path}: its class is {shown(name)}, which linfusion can't run. Allowed: Stable Diffusion 1.x, 2.x, XL"
        )
    for key, value in index.items():
        if not key.startswith("_"):
            _check(path, key, value)
    return PipelineSettings(bool(index.get("force_zeros_for_empty_prompt", True)))


def read_json_object(path: Path) -> dict[str, Any]:
    """The object of a config, read within limits. Raises WeightsError that names the file if it is missing or odd."""
    try:
        return read_json(path, LARGEST_CONFIG_BYTES)
    except FileNotFoundError as error:
        raise WeightsError(f"{path}: can't be read ({error.strerror})") from error
    except JsonError as error:
        raise WeightsError(error) from error


def _check(path: Path, key: str, value: object) -> None:
    """Raises WeightsError for an entry of model_index.json that linfusion can't honour."""
    if isinstance(value, list) or key in (*COMPONENTS, *TOKENIZERS):
        _check_component(path, key, value)
    elif key == "force_zeros_for_empty_prompt":
        if not isinstance(value, bool):
            raise WeightsError(f"{path}: {key} is {shown(value)}. Allowed: true, false")
    elif key == "requires_aesthetics_score":
        if value:
            raise WeightsError(
                f"{path}: the SD-XL refiner does not make images from text alone. Use the SD-XL base model"
            )
    elif key not in IGNORED_SETTINGS and value is not None:
        raise WeightsError(f"{path}: its setting {shown(key)} = {shown(value)} is unknown: images may depend on it")


def _check_component(path: Path, key: str, value: object) -> None:
    """Raises WeightsError for a component that is unknown, or of another class than the one that linfusion reads."""
    if not isinstance(value, list) or len(value) != 2 or not isinstance(value[1], str | None):
        raise WeightsError(f"{path}: its {shown(key)} is {shown(value)}. Allowed: a library and a class, [text, text]")
    kind = value[1]
    if key == "scheduler" and kind is not None:
        check_config(key, {"_class_name": kind}, path)
    if kind is None or key in IGNORED_COMPONENTS or key in TOKENIZERS:
        return
    if key not in COMPONENTS:
        raise WeightsError(f"{path}: has a component {shown(key)} ({shown(kind)}), which linfusion does not read")
    if kind not in COMPONENTS[key]:
        allowed = " or ".join(COMPONENTS[key])
        raise WeightsError(f"{path}: the class of its {key} is {shown(kind)}. Allowed: {allowed}")
