"""Whether a UNet reads what the model's text encoders give it, by their configs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.part_shapes import CLIP_DEFAULTS
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.single_file_layouts import TEXT_ENCODERS

SIZES = 6  # numbers that tell SD-XL the image's size: original and target height and width, and the crop


def text_widths(folder: Path) -> dict[str, int]:
    """The width of each text encoder that has a config in a folder in diffusers layout."""
    return {part: int(config["hidden_size"]) for part, config in _text_encoders(folder).items()}


def check_conditioning(unet: Mapping[str, Any], folder: Path, source: Path) -> None:
    """Holds the config of a UNet against those of the text encoders in a folder in diffusers layout.

    source: of the UNet's config. Raises WeightsError that names it and the setting that no text encoder fits. Encoders
    without a config are passed over: loading tells that they are missing.
    """
    encoders = list(_text_encoders(folder).values())
    told = unet.get("addition_embed_type") is not None
    if len(encoders) != 1 + told:
        return
    width, pooled = sum(one["hidden_size"] for one in encoders), encoders[-1]["projection_dim"]
    if unet["cross_attention_dim"] != width:
        what = f"its cross_attention_dim is {unet['cross_attention_dim']}, the model's text is {width} wide"
        raise WeightsError(f"{source}: {what}: UNet and text encoders are of different models")
    if told:
        own, read = unet["addition_time_embed_dim"], unet["projection_class_embeddings_input_dim"]
        if SIZES * own + pooled != read:
            what = f"its projection_class_embeddings_input_dim is {read}, not {SIZES} x {own} (addition_time_embed_dim)"
            raise WeightsError(f"{source}: {what} + {pooled} (projection_dim of text_encoder_2)")


def _text_encoders(folder: Path) -> dict[str, dict[str, Any]]:
    """The config of each text encoder that has one in a folder in diffusers layout."""
    paths = {part: folder / part / "config.json" for part in TEXT_ENCODERS}
    return {part: CLIP_DEFAULTS | read_json_object(path) for part, path in paths.items() if path.is_file()}
