"""Encodes the words and the images of a prompt for the UNet; no loading here, so one model serves many prompts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.compat_diffusers import final_norm_found
from linfusion_cli.engine.components.text_encoders import TextEncoders
from linfusion_cli.engine.components.weighted_embeddings import encode_weighted, needs_own_way
from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.errors import Message, option
from linfusion_cli.events import Note, Notify
from linfusion_cli.images.input_image import read_pixels
from linfusion_cli.planning.render_plan import ConditioningInputs


@torch.inference_mode()
def encode(
    text_encoders: TextEncoders, inputs: ConditioningInputs, notify: Notify, device: torch.device
) -> Conditioning:
    """Encodes the prompts and the IP-Adapter's images. The device should hold nothing else meanwhile.

    Raises UsageError for a damaged image.
    """
    with text_encoders.on(device):
        pipeline, adapter = text_encoders.pipeline, text_encoders.ip_adapter
        weighted = inputs.fragments is not None
        encoded = _weighted(pipeline, inputs, device) if weighted else _as_written(pipeline, inputs, notify, device)
        if not inputs.negative_prompt.strip():
            encoded = _zeroed(pipeline, encoded)
        positive, negative = encoded[:2]
        empty = positive.new_zeros(1, 0)
        pooled, negative_pooled = encoded[2:] if len(encoded) == 4 else (empty, empty)
        images = (
            adapter.embed(pipeline, (read_pixels(image, "ip_images") for image in inputs.images), device)
            if adapter and inputs.images
            else (empty, empty)
        )
    return Conditioning(positive, negative, pooled, negative_pooled, *images)


def _as_written(pipeline: Any, inputs: ConditioningInputs, notify: Notify, device: torch.device) -> tuple[Tensor, ...]:
    """The prompts without any syntax; tells what of them the model does not read."""
    for text, what in ((inputs.prompt, "the prompt"), (inputs.negative_prompt, "the negative prompt")):
        words = pipeline.maybe_convert_prompt(text, pipeline.tokenizer)  # words of several vectors
        _tell_truncation(pipeline.tokenizer, words, what, lambda note: notify(Note(text=note)))
    return _diffusers(pipeline, inputs, device)


def _weighted(pipeline: Any, inputs: ConditioningInputs, device: torch.device) -> tuple[Tensor, ...]:
    """The prompts with their weights, of any length."""
    prompt, negative = inputs.fragments or (), inputs.negative_fragments or ()
    if any(needs_own_way(pipeline, fragments) for fragments in (prompt, negative)):
        return encode_weighted(pipeline, prompt, negative, inputs.clip_skip)
    return _diffusers(pipeline, inputs, device)


def _diffusers(pipeline: Any, inputs: ConditioningInputs, device: torch.device) -> tuple[Tensor, ...]:
    with final_norm_found(pipeline.text_encoder):
        encoded = pipeline.encode_prompt(
            inputs.prompt,
            device=device,
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
            negative_prompt=inputs.negative_prompt,
            clip_skip=inputs.clip_skip or None,
        )
    return tuple(encoded)


def _zeroed(pipeline: Any, encoded: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The negative embeddings as zeros where the model was trained so (force_zeros_for_empty_prompt, SD-XL alone)."""
    if not getattr(pipeline.config, "force_zeros_for_empty_prompt", False):
        return encoded
    positive, negative, pooled, negative_pooled = encoded
    return positive, torch.zeros_like(negative), pooled, torch.zeros_like(negative_pooled)


def _tell_truncation(tokenizer: Any, text: str, what: str, tell: Callable[[str], None]) -> None:
    tokens, limit = len(tokenizer(text).input_ids) - 2, tokenizer.model_max_length - 2
    if tokens > limit:
        read = f"{what} has {tokens} tokens, the model reads the first {limit}. "
        tell(Message(read, option("prompt_weights"), " reads them all"))
