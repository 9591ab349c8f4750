"""Configs of text encoders and autoencoders held against the shapes of their tensors, before anything is loaded.

A config decides how much memory an empty network takes: 2^20 words of 8192 numbers are 34 GB for a file of any size.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header, TensorInfo

# Part -> key of its config -> the tensor and the side of its shape that the value must be; for the autoencoder the
# number of the level in a list, too.
ENCODER = {
    "vocab_size": ("embeddings.token_embedding.weight", 0),
    "hidden_size": ("embeddings.token_embedding.weight", 1),
    "max_position_embeddings": ("embeddings.position_embedding.weight", 0),
    "intermediate_size": ("encoder.layers.0.mlp.fc1.weight", 0),
}
AUTOENCODER = {
    ("block_out_channels", 0): ("encoder.conv_in.weight", 0),
    ("block_out_channels", -1): ("decoder.conv_in.weight", 0),
}
_LAYER = re.compile(r"(?:text_model\.)?encoder\.layers\.(\d+)\.")
_LEVEL = re.compile(r"encoder\.down_blocks\.(\d+)\.")


def check_shapes(headers: Iterable[Header]) -> None:
    """Checks the folders of text encoders and autoencoders that these files are in.

    Raises WeightsError that names config, key and tensor. A file without a config beside it is passed over.
    """
    parts: dict[Path, dict[str, TensorInfo]] = {}
    for header in headers:
        parts.setdefault(header.path.parent, {}).update(header.tensors)
    for folder, tensors in parts.items():
        path = folder / "config.json"
        if path.is_file():
            _check(
                path, read_json_object(path), {name.removeprefix("text_model."): info for name, info in tensors.items()}
            )


def _check(path: Path, config: Mapping[str, Any], tensors: Mapping[str, TensorInfo]) -> None:
    if "embeddings.token_embedding.weight" in tensors:
        for key, (name, side) in ENCODER.items():
            _compare(path, key, config.get(key), name, tensors, side)
        _count(path, "num_hidden_layers", config.get("num_hidden_layers"), _LAYER, tensors)
    elif "decoder.conv_in.weight" in tensors and "encoder.conv_in.weight" in tensors:
        channels = config.get("block_out_channels")
        for (key, level), (name, side) in AUTOENCODER.items():
            _compare(path, key, channels[level] if channels else None, name, tensors, side)
        _count(path, "block_out_channels", len(channels) if channels else None, _LEVEL, tensors)


def _compare(path: Path, key: str, value: object, name: str, tensors: Mapping[str, TensorInfo], side: int) -> None:
    info = tensors.get(name)
    if value is None or info is None or len(info.shape) <= side or info.shape[side] == value:
        return
    what = f'"{key}" is {shown(value)}, tensor {name} has the shape {shown(list(info.shape))}'
    raise WeightsError(f"{path}: {what}: config and weights are of different models. Take both from one place")


def _count(path: Path, key: str, value: object, pattern: re.Pattern[str], tensors: Mapping[str, TensorInfo]) -> None:
    """The layers that the file has are those that the config says."""
    found = {int(match[1]) for name in tensors if (match := pattern.match(name))}
    if value is not None and found and len(found) != value:
        what = f'"{key}" says {shown(value)}, the weights have {len(found)}'
        raise WeightsError(f"{path}: {what}: config and weights are of different models. Take both from one place")
