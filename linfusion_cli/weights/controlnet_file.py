"""A ControlNet's files before they are loaded: their config, their tensors, and whether they are for a UNet."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import check_tensors, difference, shapes_of
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.controlnet_union import embedding_settings, is_union, union_settings
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.model_family import FAMILY_NAMES, Tensors, check_kind, family_of, text_dim
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.single_file import unused
from linfusion_cli.weights.single_file_shapes import original_unet_shapes
from linfusion_cli.weights.unet_shapes import CONTROLNET_DEFAULTS, controlnet_shapes

# What a ControlNet in one file has from the UNet that it is for.
SHARED: tuple[str, ...] = (
    *("block_out_channels", "cross_attention_dim", "layers_per_block", "down_block_types"),
    *("transformer_layers_per_block", "attention_head_dim", "use_linear_projection", "addition_embed_type"),
    *("addition_time_embed_dim", "projection_class_embeddings_input_dim", "norm_num_groups"),
)
# What must be the same in both: the inputs of every step, and the shapes of what is added.
EQUAL = ("cross_attention_dim", "block_out_channels", "layers_per_block", "addition_embed_type")
OF_SIZES = ("addition_time_embed_dim", "projection_class_embeddings_input_dim")  # where the image's size is told
POOLED = "global_pool_conditions"  # ControlNet shuffle: a residual is its mean over the image
PREFIX = "control_model."  # of the original layout, where the file has one
ORIGINAL = (PREFIX, "input_hint_block.", "zero_convs.")  # names of the original layout begin so
# What a ControlNet has beside its UNet's part: names by diffusers, and in the original layout.
SKIPS = re.compile(r"controlnet_down_blocks\.(\d+)\.")
HINTS = re.compile(r"controlnet_cond_embedding\.blocks\.(\d+)\.")
FIXED = {"controlnet_mid_block.": "middle_block_out.0.", "controlnet_cond_embedding.conv_in.": "input_hint_block.0."}


def controlnet_config(path: Path, tensors: Tensors, unet: Mapping[str, Any] | None) -> dict[str, Any]:
    """The checked config of a ControlNet: its folder's; a single file has the UNet's shapes, or is for another model.

    unet: the config of the UNet, None if it is not on this machine, which leaves a single file's own shapes. A single
    file in the original layout says nowhere that its residuals are averaged: its name has "shuffle" in it.
    Raises WeightsError that names the file for another kind, another model's, and tensors that the config does not ask
    for.
    """
    check_kind(tensors, "controlnet", path, "controlnet")
    part = "controlnet_union" if is_union(tensors) else "controlnet"
    of_modes, source = union_settings(tensors) if is_union(tensors) else {}, path
    if path.is_dir():
        source = path / "config.json"
        config = of_modes | read_json_object(source)
        check_config(part, config, source)
        check_tensors(part, config, shapes_of(tensors), source)
        _check_fit(config, tensors, unet, path)
        return config
    shared = unet or {}
    config = {name: shared[name] for name in SHARED if name in shared} | {POOLED: "shuffle" in path.name.lower()}
    config |= embedding_settings(tensors) | of_modes
    _check_fit(config, tensors, unet, path)
    if unet is not None and any(name.startswith(ORIGINAL) for name in tensors):
        _check_original(config, tensors, path)
    elif unet is not None:
        check_tensors(part, config, shapes_of(tensors), path)
    return config


def original_controlnet_shapes(config: Mapping[str, Any], source: object) -> Shapes:
    """The shapes of a ControlNet's tensors under the names of the original layout, without prefix."""
    shapes = controlnet_shapes(config, source)
    own = {name: shape for name, shape in shapes.items() if name.startswith("controlnet_")}
    last = 2 * len({match[1] for name in own if (match := HINTS.match(name))}) + 2
    found = original_unet_shapes({name: shape for name, shape in shapes.items() if name not in own}, config)
    for name, shape in own.items():
        for theirs, ours in (FIXED | {"controlnet_cond_embedding.conv_out.": f"input_hint_block.{last}."}).items():
            name = name.replace(theirs, ours)
        name = SKIPS.sub(r"zero_convs.\1.0.", name)
        found[HINTS.sub(lambda match: f"input_hint_block.{2 * int(match[1]) + 2}.", name)] = shape
    return found


def _check_original(config: Mapping[str, Any], tensors: Tensors, path: Path) -> None:
    """Raises WeightsError for a tensor that is missing, of another shape, or not a ControlNet's."""
    dropped = set(unused(tensors))
    given = {name.removeprefix(PREFIX): info.shape for name, info in tensors.items() if name not in dropped}
    if what := difference(original_controlnet_shapes(config, path), given):
        why = "the file is incomplete, or no ControlNet for this model"
        raise WeightsError(f"{path}: {what}: {why}", parameter="controlnets")


def _check_fit(config: Mapping[str, Any], tensors: Tensors, unet: Mapping[str, Any] | None, path: Path) -> None:
    """Raises WeightsError for a ControlNet that is not for this UNet."""
    if unet is None:
        return
    mismatch = _mismatch(config, unet)
    width, read = text_dim(tensors), unet.get("cross_attention_dim")
    if not mismatch and width != read:
        mismatch = f"it reads text of width {width}, the UNet of {read}"
    if mismatch:
        family = FAMILY_NAMES[family_of(tensors, path)]
        raise WeightsError(f"{path}: for {family}, not for this model: {mismatch}", parameter="controlnets")


def _mismatch(config: Mapping[str, Any], unet: Mapping[str, Any]) -> str:
    """The first setting in which a ControlNet and a UNet differ although they must not."""
    keys = (*EQUAL, *(OF_SIZES if unet.get("addition_embed_type") else ()))
    for name in keys:
        theirs, ours = (
            tuple(value) if isinstance(value := one.get(name, CONTROLNET_DEFAULTS.get(name)), list | tuple) else value
            for one in (config, unet)
        )
        if theirs != ours:
            return f"its {name} is {shown(theirs)}, the UNet's {shown(ours)}"
    return ""
