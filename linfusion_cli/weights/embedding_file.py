"""Layouts of textual-inversion files: which tensor is for which text encoder."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.safetensors_header import ENDING, Header

XL_NAMES = {"clip_l": "text_encoder", "clip_g": "text_encoder_2"}  # kohya's and ComfyUI's names
MOST_VECTORS = 75  # what CLIP reads of a prompt
FLOATS = ("F16", "BF16", "F32", "F64")


def embedding_file(location: Path) -> Path:
    """The one .safetensors file of a location. Raises WeightsError if a folder holds none or several."""
    if location.is_file():
        return location
    files = sorted(location.glob(f"*{ENDING}"))
    if len(files) != 1:
        what = f"one {ENDING} file is required, found {len(files)}. Name the file: {location}/FILE{ENDING}"
        raise WeightsError(f"{location}: {what}", parameter="textual_inversions")
    return files[0]


def vectors_of(header: Header, *, two_encoders: bool) -> dict[str, str]:
    """Text encoder -> name of its tensor, (vectors, width) or (width,).

    SD-XL's files have a tensor for each of its two encoders. A file for 1.x or 2.x has one: "emb_params" (A1111's name)
    or named by its token (diffusers'). Raises WeightsError that names the file and what else it holds.
    """
    names = set(header.tensors)
    for name, info in header.tensors.items():
        vectors = info.shape[0] if len(info.shape) == 2 else 1
        if not 1 <= len(info.shape) <= 2 or info.dtype not in FLOATS or not 1 <= vectors <= MOST_VECTORS:
            what = f"its tensor {shown(name)} ({info.dtype}, {shown(list(info.shape))}) is not a list of vectors"
            raise WeightsError(f"{header.path}: {what}: not a textual inversion")
    if two_encoders:
        if len(names) == 1 and names < set(XL_NAMES):
            [lacks] = set(XL_NAMES) - names
            raise WeightsError(f"{header.path}: incomplete: Stable Diffusion XL reads {lacks} too, which it lacks")
        if names != set(XL_NAMES):
            raise WeightsError(
                f"{header.path}: not a textual inversion for Stable Diffusion XL, which has the tensors clip_l and "
                "clip_g; "
                f"this file has: {_listed(names)}. Take the XL version of the embedding"
            )
        return {part: name for name, part in XL_NAMES.items()}
    if names & set(XL_NAMES):
        raise WeightsError(f"{header.path}: a textual inversion for Stable Diffusion XL. Use an SD-XL preset with it")
    if len(names) != 1:
        raise WeightsError(f"{header.path}: not a textual inversion: one tensor is expected, found: {_listed(names)}")
    return {"text_encoder": names.pop()}


def taken(token: str, header: Header, location: str) -> WeightsError:
    """What to say of a token that is a word of the tokenizer, or that of another embedding."""
    what = f'the word "{token}" is in the vocabulary already. Name another: {location}:TOKEN'
    return WeightsError(f"{header.path}: {what}", parameter="textual_inversions")


def _listed(names: set[str]) -> str:
    first = ", ".join(shown(name, 40) for name in sorted(names)[:3])
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else first or "none"
