"""Loads a plan's models through diffusers: safetensors only, no code from elsewhere, nothing fetched unasked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils.logging import disable_progress_bar
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from linfusion_cli.engine.adapter import CONFIG, LinFusion
from linfusion_cli.engine.denoiser import Conditioning
from linfusion_cli.errors import WeightsError
from linfusion_cli.events import Note, Notify
from linfusion_cli.models import builtin_folder
from linfusion_cli.plan import Plan

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True)
class Models:
    """What a picture needs: UNet (with LinFusion mounted if asked for), autoencoder, noise schedule, encoded prompt."""

    unet: Any
    vae: Any
    scheduler_config: dict[str, Any]
    conditioning: Conditioning


def load(plan: Plan, notify: Notify) -> Models:
    """Loads everything onto the plan's device in the plan's number format.

    Raises WeightsError, with the command that fetches them, if weights are not on this machine.
    """
    disable_progress_bar()
    model, job = plan.job.settings.model, plan.job
    device, dtype = torch.device(plan.machine.device), DTYPES[plan.dtype]
    pipeline = _pipeline(plan, dtype)
    if model.vae:
        pipeline.vae = AutoencoderKL.from_pretrained(find_weights((model.vae,), "", CONFIG), dtype=dtype, use_safetensors=True)
    if plan.attention == "linear":
        LinFusion.load(_linfusion_folder(plan), dtype).mount(pipeline.unet)
    pipeline.to(device)
    pipeline.set_progress_bar_config(disable=True)
    conditioning = _encode(pipeline, job.prompt, job.negative_prompt, device, notify)
    if dtype == torch.float16 and pipeline.vae.config.force_upcast:
        pipeline.vae.to(torch.float32)  # SD-XL's own autoencoder overflows in float16
    if device.type == "cpu":
        pipeline.unet.to(memory_format=torch.channels_last)
        pipeline.vae.to(memory_format=torch.channels_last)
    return Models(pipeline.unet.eval(), pipeline.vae.eval(), dict(pipeline.scheduler.config), conditioning)


def _pipeline(plan: Plan, dtype: torch.dtype) -> Any:
    model = plan.job.settings.model
    folder = find_weights(model.repositories, model.revision, "model_index.json")
    options: dict[str, Any] = {"dtype": dtype, "use_safetensors": True, "local_files_only": True}
    if model.family != "sdxl":
        options |= {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
    if model.variant and any(folder.rglob(f"*.{model.variant}.safetensors")):
        options["variant"] = model.variant
    pipeline_class = StableDiffusionXLPipeline if model.family == "sdxl" else StableDiffusionPipeline
    try:
        return pipeline_class.from_pretrained(folder, **options)
    except (OSError, ValueError) as error:
        raise WeightsError(f"{folder}: not a complete model of family {model.family} ({error})") from error


def _linfusion_folder(plan: Plan) -> Path:
    model = plan.job.settings.model
    if not model.linfusion:
        raise WeightsError(f"preset {plan.job.preset} names no LinFusion weights (model.linfusion). Try --attention softmax")
    folder = find_weights(model.linfusion, "", CONFIG)
    return folder / "linfusion" if (folder / "linfusion" / CONFIG).exists() else folder


def find_weights(places: tuple[str, ...], revision: str, file: str) -> Path:
    """The first place that is on this machine: a built-in model, a folder, or a repository in the hub's cache."""
    for place in places:
        folder = builtin_folder(place) or Path(place).expanduser()
        if folder.is_dir():
            return folder
        if found := _cached(place, revision, file):
            return found
    names = ", ".join(places)
    fetch = f"hf download {places[0]}" + (f" --revision {revision}" if revision else "")
    raise WeightsError(f"weights are not on this machine: {names}. Fetch them with: {fetch}")


def _cached(repository: str, revision: str, file: str) -> Path | None:
    try:
        folder = Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
    return folder if (folder / file).exists() else None


@torch.inference_mode()
def _encode(pipeline: Any, prompt: str, negative_prompt: str, device: torch.device, notify: Notify) -> Conditioning:
    """Encodes prompt and negative prompt with the pipeline's own text encoders, and lets go of them."""
    _tell_truncation(pipeline.tokenizer, prompt, lambda text: notify(Note(text=text)))
    encoded = pipeline.encode_prompt(prompt, device=device, num_images_per_prompt=1, do_classifier_free_guidance=True, negative_prompt=negative_prompt)
    for name in ("text_encoder", "text_encoder_2"):
        if hasattr(pipeline, name):
            setattr(pipeline, name, None)
    positive, negative = encoded[:2]
    empty = positive.new_zeros(1, 0)
    pooled, negative_pooled = encoded[2:] if len(encoded) == 4 else (empty, empty)
    return Conditioning(positive, negative, pooled, negative_pooled)


def _tell_truncation(tokenizer: Any, prompt: str, tell: Callable[[str], None]) -> None:
    tokens, limit = len(tokenizer(prompt).input_ids) - 2, tokenizer.model_max_length - 2
    if tokens > limit:
        tell(f"the prompt has {tokens} tokens, the model reads the first {limit}")
