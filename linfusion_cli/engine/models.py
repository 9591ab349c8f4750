"""Loads a plan's models: safetensors only, no code from elsewhere, nothing fetched unasked. What a prompt says is conditioning.py's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel

from linfusion_cli.engine.adapter import CONFIG, LinFusion
from linfusion_cli.engine.controlnet import ControlNet
from linfusion_cli.engine.ip_adapter import IPAdapter
from linfusion_cli.engine.lora import Lora
from linfusion_cli.engine.mounting import Mounted
from linfusion_cli.engine.schedulers import make_scheduler
from linfusion_cli.engine.sources import FileSource, FolderSource, Source, open_source
from linfusion_cli.engine.tensors import CPU, build, own_all
from linfusion_cli.engine.textual_inversion import add_inversions
from linfusion_cli.engine.weights import Weights
from linfusion_cli.errors import WeightsError
from linfusion_cli.events import Note, Notify
from linfusion_cli.plan import Plan
from linfusion_cli.weights.family import FAMILY_NAMES, family_of_model, kind_of
from linfusion_cli.weights.headers import read_header
from linfusion_cli.weights.places import find_first

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
TEXT_ENCODERS = ("text_encoder", "text_encoder_2")
READERS = (*TEXT_ENCODERS, "image_encoder")


@dataclass(frozen=True, slots=True)
class Models:
    """Everything that is loaded for a picture, and nothing that depends on its prompt or its size.

    texts: a diffusers pipeline with the tokenizers and text encoders (`release_texts` frees these)
    mounted: the UNet with what goes on and off it: LinFusion, LoRA, IP-Adapter
    """

    mounted: Mounted
    vae: Any
    scheduler_config: dict[str, Any]
    texts: Any
    controlnets: tuple[ControlNet, ...]

    @property
    def unet(self) -> Any:
        return self.mounted.unet

    @property
    def modules(self) -> tuple[Any, ...]:
        """Every network that decides pixels, beside the text encoders."""
        return (self.unet, self.vae, *self.mounted.modules, *(net.model for net in self.controlnets))

    @property
    def _readers(self) -> list[Any]:
        """The text and image encoders that are still here."""
        return [module for name in READERS if (module := getattr(self.texts, name, None)) is not None]

    @contextmanager
    def reading(self, device: torch.device) -> Iterator[None]:
        """The text and image encoders are on the device inside, alone: a card need not hold them and the rest at once."""
        self.mounted.attend("softmax")
        for module in self.modules:
            module.to(CPU)
        readers = self._readers
        try:
            for module in readers:
                module.to(device)
            yield
        finally:
            for module in readers:
                module.to(CPU)

    def place(self, weights: Weights) -> None:
        """Moves what makes pictures to where the plan wants it."""
        own_all(self.vae, weights.device)
        for unet in (self.unet, *(net.model for net in self.controlnets)):
            weights.place(unet)
        for reader in self._readers:
            own_all(reader, CPU)

    def release_texts(self) -> None:
        """Lets go of the text encoders and the image encoder, once all prompts are encoded."""
        for name in READERS:
            if getattr(self.texts, name, None) is not None:
                setattr(self.texts, name, None)


def load(plan: Plan, notify: Notify) -> Models:
    """Everything in the plan's number format, partly in mapped files still; `reading` and `place` bring it to the plan's device.

    Raises WeightsError: with the command that fetches them if weights are not on this machine, naming the first tensor that
    does not fit if they are of another model.
    """
    settings = plan.job.settings
    dtype = DTYPES[plan.dtype]
    source = _source(plan)
    unet = build(lambda: UNet2DConditionModel.from_config(source.config("unet")), [source.tensors("unet", dtype)], _part(source, "unet"))
    unet.requires_grad_(False)
    vae = _vae(plan, source, dtype)
    config = _scheduler_config(source, settings.model.prediction, notify)
    texts = _texts(plan, source, dtype, unet, vae, config)
    add_inversions(texts, settings.extras.textual_inversions)
    linfusion = _linfusion(plan, unet, dtype) if _linear(plan) else None
    loras = tuple(Lora.load(text, texts) for text in settings.extras.loras)
    for number, lora in enumerate(loras):
        lora.mount_texts(texts, number)
    mounted = Mounted(unet, linfusion, loras)
    if settings.extras.ip_adapter:
        mounted.ip_adapter = IPAdapter.load(settings.extras.ip_adapter, texts, settings.extras.ip_scale, dtype)
    controlnets = tuple(ControlNet.load(place, unet, dtype, linfusion) for place in settings.extras.controlnets)
    return Models(mounted, vae, config, texts, controlnets)


def _linear(plan: Plan) -> bool:
    return any(stage.attention == "linear" for stage in plan.stages)


def _source(plan: Plan) -> Source:
    """The model, once its tensors have said that it is of the preset's family."""
    model = plan.job.settings.model
    path = find_first(model.repositories, model.revision, "--model")
    family = family_of_model(path, model.variant)
    if family != model.family:
        theirs = FAMILY_NAMES[family]
        raise WeightsError(f"{path}: of the family {family} ({theirs}), preset {plan.job.preset} is for {model.family}. Nearest: --preset {family}-4k")
    return open_source(path, family, model.variant, Path(model.configs).expanduser() if model.configs else None)


def _part(source: Source, part: str) -> str:
    return str(source.path / part if source.path.is_dir() else source.path)


def _vae(plan: Plan, source: Source, dtype: torch.dtype) -> Any:
    """The autoencoder: another one if the preset names it, in float32 where its config says that float16 overflows."""
    model = plan.job.settings.model
    place = model.vae or (model.vae_float16 if dtype == torch.float16 else "")
    if place:
        source = _vae_source(find_first((place,), "", "--vae"), plan)
    config = source.config("vae")
    if dtype == torch.float16 and config.get("force_upcast", True):
        dtype = torch.float32
    return build(lambda: AutoencoderKL.from_config(config), [source.tensors("vae", dtype)], _part(source, "vae")).requires_grad_(False)


def _vae_source(path: Path, plan: Plan) -> Source:
    """A folder with the autoencoder itself, a whole model, or one file: in the original layout, or in that of diffusers."""
    if path.is_dir():
        return FolderSource(path, plan.job.settings.model.variant) if (path / "vae").is_dir() else FolderSource(path, "", lone=True)
    if kind_of(read_header(path).tensors) not in ("vae", "checkpoint"):
        raise WeightsError(f"--vae {path}: holds no autoencoder")
    return FileSource.open(path, plan.job.settings.model.family, Path(plan.job.settings.model.configs) if plan.job.settings.model.configs else None)


def _scheduler_config(source: Source, prediction: str, notify: Notify) -> dict[str, Any]:
    """The noise schedule that the model was trained with, or that --prediction says."""
    config = {key: value for key, value in source.config("scheduler").items() if not key.startswith("_")}
    if prediction == "auto":
        if isinstance(source, FileSource) and not source.says_prediction and config.get("prediction_type") == "v_prediction":
            notify(Note(text=f"{source.path.name} does not say what it predicts: taken as v_prediction. If the picture is noise: --prediction epsilon"))
        return config
    config["prediction_type"] = prediction.removesuffix("_zero_snr")
    if prediction.endswith("_zero_snr"):
        config |= {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}
    return config


def _texts(plan: Plan, source: Source, dtype: torch.dtype, unet: Any, vae: Any, config: Mapping[str, Any]) -> Any:
    """A pipeline that reads prompts; pictures are not made by it."""
    family = plan.job.settings.model.family
    parts: dict[str, Any] = {"vae": vae, "unet": unet, "scheduler": make_scheduler("ddim", dict(config))}
    for number, name in enumerate(TEXT_ENCODERS[: 2 if family == "sdxl" else 1]):
        parts[name] = _text_encoder(source, name, dtype)
        parts["tokenizer" + ("_2" if number else "")] = source.tokenizer("tokenizer" + ("_2" if number else ""))
    pipeline: Any
    if family == "sdxl":
        pipeline = StableDiffusionXLPipeline(**parts, feature_extractor=None, image_encoder=None, add_watermarker=False)
    else:
        pipeline = StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _text_encoder(source: Source, part: str, dtype: torch.dtype) -> Any:
    config = source.config(part)
    name = (config.get("architectures") or ["CLIPTextModel"])[0]
    if name not in ("CLIPTextModel", "CLIPTextModelWithProjection"):
        raise WeightsError(f"{_part(source, part)}: is a {name}: linfusion knows CLIPTextModel and CLIPTextModelWithProjection")
    tensors = source.tensors(part, dtype)
    if name == "CLIPTextModel":  # its names lost their prefix in transformers 5
        tensors = {key.removeprefix("text_model."): value for key, value in tensors.items()}
    settings = transformers.CLIPTextConfig.from_dict(config)
    return build(lambda: getattr(transformers, name)(settings), [tensors], _part(source, part), extra_allowed=True)


def _linfusion(plan: Plan, unet: Any, dtype: torch.dtype) -> LinFusion:
    """The linear attention, once it has said that it is for this UNet."""
    folder = _linfusion_folder(plan)
    linfusion = LinFusion.load(folder, dtype, keep_projections=plan.job.settings.model.keep_projections)
    try:
        linfusion.check(unet)
    except WeightsError as error:
        raise WeightsError(f"--linfusion {folder}: {error}") from error
    return linfusion


def _linfusion_folder(plan: Plan) -> Path:
    model = plan.job.settings.model
    if not model.linfusion:
        raise WeightsError(f"preset {plan.job.preset} names no LinFusion weights (model.linfusion). Try --attention softmax")
    folder = find_first(model.linfusion, "", "--linfusion")
    return folder / "linfusion" if (folder / "linfusion" / CONFIG).exists() else folder
