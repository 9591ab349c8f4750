"""T2I-Adapter files (arXiv 2302.08453): how they are known, and the config that the shapes of a single file tell."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import check_tensors
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import CONVOLUTION, Header, TensorInfo

CLASS = "T2IAdapter"
STEM = "adapter."
FACTORS = (16, 8)  # by which an image is folded into channels: of SD-XL's, of the others'
BLOCKS = 2  # ResNet blocks per level of the original full adapters
# A tensor that every adapter has: by diffusers, and originally in full and light ones.
MARKS = (f"{STEM}body.0.resnets.0.block1.weight", "body.0.block1.weight", "body.0.body.0.block1.weight")
CHANNELS = (3, 1)  # of the control image: colours, or grey


def is_t2i_adapter(path: Path, headers: tuple[Header, ...]) -> bool:
    """Whether a folder's config or a file's tensors say that they are a T2I-Adapter's."""
    if path.is_dir():
        config = path / "config.json"
        return config.exists() and read_json_object(config).get("_class_name") == CLASS
    return any(holds_t2i_adapter(header.tensors) for header in headers)


def holds_t2i_adapter(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether the tensors are those of a T2I-Adapter, under the names of diffusers or the original ones."""
    return any(name in tensors for name in MARKS)


def diffusers_names(names: Iterable[str]) -> dict[str, str]:
    """A file's name of each tensor -> diffusers' name; names that are neither original ones nor diffusers' stay.

    An original full adapter numbers its ResNet blocks through, two per level; a light one has them inside its levels,
    as diffusers' scripts/convert_original_t2i_adapter.py reads them.
    """
    names = list(names)
    per_level = 1 if any(".body." in name for name in names if name.startswith("body.")) else BLOCKS
    return {name: _diffusers_name(name, per_level) for name in names}


def _diffusers_name(name: str, per_level: int) -> str:
    parts = name.split(".")
    match parts:
        case ["conv_in", *_]:
            return STEM + name
        case ["body", level, "body", block, *rest]:
            return ".".join([f"{STEM}body", level, "resnets", block, *rest])
        case ["body", number, ("block1" | "block2"), *rest] if number.isdecimal():
            above, inside = divmod(int(number), per_level)
            return ".".join([f"{STEM}body", str(above), "resnets", str(inside), parts[2], *rest])
        case ["body", number, ("in_conv" | "out_conv"), *rest] if number.isdecimal():
            return ".".join([f"{STEM}body", str(int(number) // per_level), parts[2], *rest])
    return name


def adapter_config(path: Path, headers: tuple[Header, ...]) -> dict[str, Any]:
    """The checked config of a T2I-Adapter. Raises WeightsError for one that linfusion can't run."""
    config = read_json_object(path / "config.json") if path.is_dir() else _config_of(headers[0])
    check_config("t2i_adapter", config, path / "config.json" if path.is_dir() else path)
    return config


def check_t2i_adapter(path: Path, headers: tuple[Header, ...], unet: Mapping[str, Any] | None) -> None:
    """Raises WeightsError if it can't be run, or is for another UNet than that of this config (None: not known)."""
    config = adapter_config(path, headers)
    tensors = {name: info.shape for header in headers for name, info in header.tensors.items()}
    named = diffusers_names(tensors)
    if tensors:
        shapes = {named[name]: shape for name, shape in tensors.items()}
        check_tensors("t2i_adapter", config, shapes, path / "config.json" if path.is_dir() else path)
    if unet is None:
        return
    given, channels = tuple(config.get("channels", (320, 640, 1280, 1280))), tuple(unet["block_out_channels"])
    features = (*given, given[-1]) if config.get("adapter_type") == "light_adapter" else given
    if features[: len(channels)] != channels:
        what = f"its features have {shown(list(features))} channels, the UNet's levels {shown(list(channels))}"
        raise WeightsError(f"{path}: for another model: {what}", parameter="controlnets")
    scales, read = _scales(config, len(channels)), _read_scales(unet)
    if scales != read:
        what = f"its features are 1/{', 1/'.join(map(str, scales))} of the image, the UNet reads 1/"
        raise WeightsError(f"{path}: for another model: {what}{', 1/'.join(map(str, read))}", parameter="controlnets")


def _scales(config: Mapping[str, Any], levels: int) -> tuple[int, ...]:
    """By what each feature is smaller than the image."""
    factor = int(config.get("downscale_factor", FACTORS[1]))
    if config.get("adapter_type") == "full_adapter_xl":
        return tuple(factor * (1 if level < 2 else 2) for level in range(levels))
    return tuple(factor * 2**level for level in range(levels))


def _read_scales(unet: Mapping[str, Any]) -> tuple[int, ...]:
    """By what the activations are smaller than the image that features are added to.

    A block with attention adds its feature before it halves the size, one without after it.
    """
    last = len(unet["block_out_channels"]) - 1
    return tuple(
        8 * 2 ** (level + int("CrossAttn" not in kind and level < last))
        for level, kind in enumerate(unet["down_block_types"])
    )


def _config_of(header: Header) -> dict[str, Any]:
    """The config of a T2I-Adapter in one file, by its shapes. Raises WeightsError for an unknown layout."""
    named = {new: header.tensors[name].shape for name, new in diffusers_names(header.tensors).items()}
    shapes = {name.removeprefix(STEM): shape for name, shape in named.items() if name.startswith(STEM)}
    blocks = 1 + max(int(name.split(".")[1]) for name in shapes if name.startswith("body."))
    outs = [shapes.get(f"body.{i}.resnets.0.block1.weight", (0,))[0] for i in range(blocks)]
    resnets = len({name.split(".")[3] for name in shapes if name.startswith("body.0.resnets.")})
    light = "conv_in.weight" not in shapes
    first = shapes.get("body.0.in_conv.weight" if light else "conv_in.weight", ())
    if len(first) != CONVOLUTION or 0 in outs:
        raise WeightsError(f"{header.path}: no T2I-Adapter of a known layout: its first convolution is missing")
    for factor in FACTORS[1:] if light else FACTORS:
        for channels in CHANNELS:
            if first[1] == channels * factor**2:
                kind = "light_adapter" if light else "full_adapter_xl" if factor == FACTORS[0] else "full_adapter"
                if light:
                    outs = [shapes.get(f"body.{i}.out_conv.weight", (0,))[0] for i in range(blocks - 1)]
                return {
                    "in_channels": channels,
                    "channels": outs,
                    "num_res_blocks": resnets,
                    "downscale_factor": factor,
                    "adapter_type": kind,
                }
    folded = math.isqrt(first[1])
    raise WeightsError(
        f"{header.path}: a T2I-Adapter that reads {first[1]} channels (about {folded} squared): not a known kind"
    )
