"""Loads the encoders of prompts, words and images: before the UNet, so that the two need not be in memory at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from torch import Tensor

from linfusion_cli.engine.adapters.ip_adapter import IPAdapter
from linfusion_cli.engine.adapters.lora import Lora, load_loras
from linfusion_cli.engine.adapters.textual_inversion import add_inversions
from linfusion_cli.engine.compat_diffusers import hollow
from linfusion_cli.engine.loading.from_config import guarded, maker
from linfusion_cli.engine.loading.model_files import FileSource, FolderSource, Source, open_source
from linfusion_cli.engine.loading.safetensors_loader import CPU, build, own_all
from linfusion_cli.engine.loading.unet_source import unet_source
from linfusion_cli.engine.memory.dtypes import DTYPES
from linfusion_cli.errors import WeightsError
from linfusion_cli.models import family_folder
from linfusion_cli.planning.render_plan import ComponentInputs, RenderPlan
from linfusion_cli.weights.config_rules import deciding
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.pipeline_settings import INDEX, PipelineSettings, read_pipeline_settings
from linfusion_cli.weights.single_file_layouts import TEXT_ENCODERS, encoder_parts

ENCODERS = (*TEXT_ENCODERS, "image_encoder")


@dataclass(frozen=True, slots=True)
class TextEncoders:
    """The tokenizers and encoders of a model, with what a user adds to them.

    source:   of all components; unet_source: of the UNet, which may be another one
    pipeline: of diffusers, with the text and image encoders; its UNet is hollow until `models.load` fills it
    loras, ip_adapter: read, and checked against the hollow UNet; the text encoders have their part of the LoRAs
    """

    source: Source
    unet_source: Source
    pipeline: Any
    loras: tuple[Lora, ...] = ()
    ip_adapter: IPAdapter | None = None

    @property
    def modules(self) -> list[Any]:
        """The text and image encoders that are still here."""
        return [module for name in ENCODERS if (module := getattr(self.pipeline, name, None)) is not None]

    @contextmanager
    def on(self, device: torch.device) -> Iterator[None]:
        """The encoders are on the device inside."""
        try:
            for module in self.modules:
                module.to(device)
            yield
        finally:
            for module in self.modules:
                module.to(CPU)

    def own(self) -> None:
        """The encoders stay: their files are needed no more."""
        for module in self.modules:
            own_all(module, CPU)

    def release(self) -> None:
        """Lets go of the encoders, once all prompts are read."""
        for name in ENCODERS:
            if getattr(self.pipeline, name, None) is not None:
                setattr(self.pipeline, name, None)
        gc.collect()  # networks refer to themselves


def load_text_encoders(plan: RenderPlan) -> TextEncoders:
    """The encoders in the plan's number format, partly in mapped files still.

    Raises WeightsError: with the command that fetches them if weights are not on this machine, naming the first tensor
    that does not fit if they are of another model.
    """
    inputs, dtype = plan.components, DTYPES[plan.dtype]
    source = _source(inputs)
    own_unet = _unet_source(inputs, source)
    pipeline = _pipeline(inputs, source, own_unet, dtype)
    add_inversions(pipeline, inputs.inversions)
    loras = load_loras(inputs.loras, pipeline)
    ip_adapter = _ip_adapter(inputs, pipeline, dtype)
    return TextEncoders(source, own_unet, pipeline, loras, ip_adapter)


def _ip_adapter(inputs: ComponentInputs, pipeline: Any, dtype: torch.dtype) -> IPAdapter | None:
    if inputs.ip_adapter is None:
        return None
    return IPAdapter.load(inputs.ip_adapter, inputs.ip_encoder, pipeline, inputs.ip_scale, dtype)


def part_name(source: Source, part: str) -> str:
    """Where a part of a model is, for messages."""
    lone = isinstance(source, FolderSource) and source.lone
    return str(source.path / part if source.path.is_dir() and not lone else source.path)


def pipeline_settings(source: Source, family: str) -> PipelineSettings:
    """The tokenizer of the folder, or of the configs beside a single file; else the family's. Raises WeightsError."""
    if not isinstance(source, FileSource):
        return read_pipeline_settings(source.path)
    own = (source.configs / INDEX).exists()
    return read_pipeline_settings(source.configs if own else family_folder(family))


def _source(inputs: ComponentInputs) -> Source:
    return open_source(inputs.model, inputs.family, inputs.configs)


def _unet_source(inputs: ComponentInputs, source: Source) -> Source:
    """The model's own UNet, or another one."""
    return source if inputs.unet is None else unet_source(inputs.unet, source)


def _pipeline(inputs: ComponentInputs, source: Source, unet: Source, dtype: torch.dtype) -> Any:
    """A pipeline that reads prompts; images are not made by it."""
    two = FAMILY_ROWS[inputs.family].two_text_encoders
    parts: dict[str, Any] = {
        "unet": hollow(maker(UNet2DConditionModel, unet.config("unet"), part_name(unet, "unet"))),
        "vae": None,
        "scheduler": None,
    }
    for name, tokenizer in encoder_parts(two=two):
        parts[name], parts[tokenizer] = _text_encoder(source, name, dtype), source.tokenizer(tokenizer)
    pipeline: Any
    zeros = pipeline_settings(source, inputs.family).force_zeros_for_empty_prompt
    if two:
        parts |= {"feature_extractor": None, "image_encoder": None, "force_zeros_for_empty_prompt": zeros}
        pipeline = StableDiffusionXLPipeline(**parts, add_watermarker=False)
    else:
        pipeline = StableDiffusionPipeline(
            **parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _text_encoder(source: Source, part: str, dtype: torch.dtype) -> Any:
    config = source.config(part)
    name = (config.get("architectures") or ["CLIPTextModel"])[0]
    if name not in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        raise WeightsError(
            f"{part_name(source, part)}: is a {name}: linfusion knows CLIPTextModel and CLIPTextModelWithProjection"
        )
    tensors = source.tensors(part, dtype)
    if name == "CLIPTextModel":  # its names lost their prefix in transformers 5
        tensors = {key.removeprefix("text_model."): value for key, value in tensors.items()}
    about, kind = part_name(source, part), getattr(transformers, name)
    settings = deciding(part, config)
    make = guarded(lambda: kind(transformers.CLIPTextConfig.from_dict(settings)), name, about)
    return build(make, [_without_unused(tensors, name)], about)


def _without_unused(tensors: dict[str, Tensor], kind: str) -> dict[str, Tensor]:
    """Without those that no embedding depends on: a list of positions, and what CLIP compares texts and images with."""
    unused = {"embeddings.position_ids", "logit_scale"}
    unused |= {"text_projection.weight"} if kind == "CLIPTextModel" else set()
    return {key: value for key, value in tensors.items() if key.removeprefix("text_model.") not in unused}
