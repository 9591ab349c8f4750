"""Every tensor of a part's files held against its config, by names and shapes, before anything is loaded.

A config decides how much memory an empty network takes: 2^20 words of 8192 numbers are 34 GB for a file of any size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.layer_shapes import Shape, Shapes, first_difference
from linfusion_cli.weights.model_family import Tensors
from linfusion_cli.weights.part_shapes import (
    image_encoder_shapes,
    t2i_adapter_shapes,
    text_encoder_shapes,
    vae_shapes,
)
from linfusion_cli.weights.unet_shapes import controlnet_shapes, unet_shapes

SHAPES: dict[str, Callable[[Mapping[str, Any], Path], Shapes]] = {
    "unet": unet_shapes,
    "vae": vae_shapes,
    "controlnet": controlnet_shapes,
    "controlnet_union": lambda config, source: controlnet_shapes(config, source, union=True),
    "text_encoder": text_encoder_shapes,
    "text_encoder_2": text_encoder_shapes,
    "image_encoder": image_encoder_shapes,
    "t2i_adapter": t2i_adapter_shapes,
}
# What files call a tensor otherwise than networks do: the autoencoder's attention before 2023, CLIP's prefixes.
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
PREFIX = re.compile(r"^(text_model|vision_model)\.")
# Positions are numbers 0, 1, 2, ...; with the other one CLIP compares texts and images.
UNREAD = re.compile(r"(embeddings\.position_ids|logit_scale)")


def check_tensors(part: str, config: Mapping[str, Any], tensors: Mapping[str, Shape], source: Path) -> None:
    """Checks the shapes of the tensors of a part ("unet", "vae", ...) against its config, which passed the rules.

    source: the config, or the file that tells it. Raises WeightsError that names it and the first tensor that is
    missing, of another shape, or not the network's.
    """
    expected, given = SHAPES[part](config, source), _given(tensors)
    if "text_projection.weight" not in expected:  # which files have, and CLIPTextModel does not read
        given.pop("text_projection.weight", None)
    if what := difference(expected, given):
        raise WeightsError(f"{source}: {what}: the file is incomplete, or config and weights are of different models")


def difference(expected: Mapping[str, Shape], given: Mapping[str, Shape]) -> str:
    """What is wrong with the first tensor that is missing, of another shape, or of no use; "" if all is well."""
    name = first_difference(expected, given)
    theirs, ours = given.get(name), expected.get(name)
    if not name:
        return ""
    if ours is None:
        return f"its tensor {shown(name)} has no place in the model"
    if theirs is None:
        return f"its tensor {shown(name)} is missing, expected with shape {ours}"
    return f"its tensor {shown(name)} has shape {theirs}, expected {ours}"


def shapes_of(tensors: Tensors) -> Shapes:
    """The shapes of tensors by name."""
    return {name: info.shape for name, info in tensors.items()}


def _given(tensors: Mapping[str, Shape]) -> Shapes:
    """The tensors of files as networks name them now."""
    found: Shapes = {}
    for name, shape in tensors.items():
        plain = PREFIX.sub("", name)
        if ".mid_block.attentions.0." in plain:
            stem, end = plain.rsplit(".", 1)
            stem, old = stem.rsplit(".", 1)
            plain = f"{stem}.{OLD_ATTENTION.get(old, old)}.{end}"
        if not UNREAD.fullmatch(plain):
            found[plain] = shape
    return found
