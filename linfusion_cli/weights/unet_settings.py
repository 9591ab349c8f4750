"""What a UNet's own tensors tell of its config, where one file has no config: depths, middle block, guidance embedding.

SSD-1B, Segmind-Vega and KOALA have fewer transformer blocks than SD-XL, other numbers of them in each layer, and
another middle block; in one file they look like SD-XL otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from linfusion_cli.weights.model_family import Tensors
from linfusion_cli.weights.single_file_layouts import named, prefixes
from linfusion_cli.weights.unet_shapes import ATTENDS, UNET_DEFAULTS

# Where a latent consistency model (arXiv 2310.04378) reads its guidance scale; shape (channels, numbers of it).
GUIDANCE = ("time_embedding.cond_proj.weight", "time_embed.cond_proj.weight")
WEIGHT = 2  # dimensions of a linear layer's weight
MIDDLE, PLAIN_MIDDLE = UNET_DEFAULTS["mid_block_type"], "UNetMidBlock2D"
_DEPTH = re.compile(r"((?:input|output)_blocks\.\d+\.1|middle_block\.1)\.transformer_blocks\.(\d+)\.")
_DOWNSAMPLER = re.compile(r"input_blocks\.(\d+)\.0\.op\.weight")


def guidance_embedding_dim(tensors: Tensors) -> int:
    """How many numbers tell a UNet its guidance scale; 0 for the usual UNet, which is not told."""
    names = (prefix + name for prefix in ("", *prefixes("unet")) for name in GUIDANCE)
    shapes = (tensors[name].shape for name in names if name in tensors)
    return next((shape[1] for shape in shapes if len(shape) == WEIGHT), 0)


def with_settings_of(tensors: Tensors, config: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a UNet in one file: that of its family, with what its own tensors tell."""
    told = dict(config) | {"time_cond_proj_dim": guidance_embedding_dim(tensors) or None}
    way = named(tensors, "unet")
    if way is None or way.naming != "ldm_unet":
        return told
    names = [name.removeprefix(way.prefix) for name in tensors if name.startswith(way.prefix)]
    return told | _structure(names, config)


def _structure(names: list[str], config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that say where a UNet has transformer blocks, and how many, by the original names."""
    depths: dict[str, int] = {}
    for name in names:
        if match := _DEPTH.match(name):
            depths[match[1]] = max(depths.get(match[1], 0), int(match[2]) + 1)
    levels = len(config["block_out_channels"])
    samplers = [int(match[1]) for name in names if (match := _DOWNSAMPLER.fullmatch(name))]
    layers = min(samplers) - 1 if samplers else int(config.get("layers_per_block", 2))
    middle = depths.get("middle_block.1", 0)
    down = [[depths.get(f"input_blocks.{1 + i * (layers + 1) + j}.1", 0) for j in range(layers)] for i in range(levels)]
    up = [[depths.get(f"output_blocks.{i * (layers + 1) + j}.1", 0) for j in range(layers + 1)] for i in range(levels)]
    ways = [_compact(level) for level in down]
    ways[-1] = ways[-1] or middle
    back = [_compact(level) or way for level, way in zip(up, ways[::-1], strict=True)]
    told = {
        "layers_per_block": layers,
        "down_block_types": [f"{ATTENDS if any(level) else ''}DownBlock2D" for level in down],
        "up_block_types": [f"{ATTENDS if any(level) else ''}UpBlock2D" for level in up],
        "transformer_layers_per_block": [way or 1 for way in ways],
        "mid_block_type": _middle(names),
    }
    if any(isinstance(way, list) for way in (*ways, *back)) or back != ways[::-1]:
        told["reverse_transformer_layers_per_block"] = [way or 1 for way in back]
    return told


def _compact(depths: list[int]) -> int | list[int]:
    """The depths of a level's layers: one number where they are the same."""
    return depths if len(set(depths)) > 1 else depths[0] if depths else 0


def _middle(names: list[str]) -> str | None:
    """The kind of the middle block: with a transformer, without one, or none at all."""
    numbers = {name.split(".")[1] for name in names if name.startswith("middle_block.")}
    return None if not numbers else MIDDLE if "1" in numbers else PLAIN_MIDDLE
