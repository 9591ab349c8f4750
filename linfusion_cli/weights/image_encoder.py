"""The image encoder of an IP-Adapter: a folder in diffusers layout, or one file, whose shapes tell its config."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import check_tensors
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import CONVOLUTION, Header, TensorInfo

CONFIG = "config.json"
HF, OPEN_CLIP = "vision_model.", "visual."
PROJECTION = "visual_projection.weight"
# Width of the hidden states -> heads and activation, which no shape tells: CLIP's ViT-L, OpenCLIP's ViT-H and ViT-bigG.
KNOWN = {1024: (16, "quick_gelu"), 1280: (16, "gelu"), 1664: (16, "gelu")}
# OpenCLIP's names of what lies outside the layers, and within one.
OUTER = {
    "class_embedding": "embeddings.class_embedding",
    "conv1.weight": "embeddings.patch_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
}
INNER = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}
BLOCKS, LAYERS = "transformer.resblocks.", "encoder.layers."
FUSED = "attn.in_proj_"  # query, key and value in one tensor


def encoder_config(location: Path, headers: Sequence[Header]) -> dict[str, Any]:
    """The checked config of an encoder, in its folder or by the header of its single file.

    Raises WeightsError if there is none, or one that linfusion can't run.
    """
    if location.is_dir():
        config = read_json_object(location / CONFIG)
        check_config("image_encoder", config, location / CONFIG)
        return config
    config = _config_of(headers[0])
    check_config("image_encoder", config, location)
    return config


def check_image_encoder(location: Path, headers: Sequence[Header]) -> None:
    """Raises WeightsError for an encoder that can't be run, or whose tensors are not those of its config."""
    config, given = encoder_config(location, headers), Shapes()
    for header in headers:
        for name, info in header.tensors.items():
            names = transformers_names(name)
            shape = info.shape[::-1] if name == f"{OPEN_CLIP}proj" else info.shape
            given |= dict.fromkeys(names, (shape[0] // len(names), *shape[1:]) if len(names) > 1 else shape)
    if given:
        check_tensors("image_encoder", config, given, location / CONFIG if location.is_dir() else location)


def transformers_names(name: str) -> tuple[str, ...]:
    """How transformers calls a tensor of an encoder's file: three names for one that holds query, key and value.

    () for tensors of the text encoder and others that no image depends on.
    """
    if name.endswith("position_ids"):
        return ()
    if name.startswith(HF) or name == PROJECTION:
        return (name,)
    if not name.startswith(OPEN_CLIP):
        return ()
    rest = name.removeprefix(OPEN_CLIP)
    if rest == "proj":
        return (PROJECTION,)
    if rest.startswith(BLOCKS):
        number, _, inner = rest.removeprefix(BLOCKS).partition(".")
        stem = f"{HF}{LAYERS}{number}."
        if inner.startswith(FUSED):
            return tuple(f"{stem}self_attn.{one}_proj.{inner.removeprefix(FUSED)}" for one in "qkv")
        return tuple(stem + new + inner.removeprefix(old) for old, new in INNER.items() if inner.startswith(old))
    return tuple(HF + new + rest.removeprefix(old) for old, new in OUTER.items() if rest.startswith(old))


def is_image_encoder(tensors: Mapping[str, TensorInfo]) -> bool:
    """Whether a file holds CLIP's image encoder, under the names of transformers or of OpenCLIP."""
    return f"{HF}embeddings.class_embedding" in tensors or f"{OPEN_CLIP}class_embedding" in tensors


def _config_of(header: Header) -> dict[str, Any]:
    """The config that the shapes of a single file tell."""
    shapes = {new: info.shape for name, info in header.tensors.items() for new in transformers_names(name)}
    widths = shapes.get(f"{HF}embeddings.class_embedding", ())
    patches = shapes.get(f"{HF}embeddings.patch_embedding.weight", ())
    positions = shapes.get(f"{HF}embeddings.position_embedding.weight", ())
    projection = shapes.get(PROJECTION, ())
    if len(widths) != 1 or len(patches) != CONVOLUTION or len(positions) != 2 or len(projection) != 2:
        names = ", ".join(shown(name, 40) for name in list(header.tensors)[:3]) or "none"
        raise WeightsError(
            f"{header.path}: not an image encoder of CLIP with its projection: its tensors are {names}, ..."
        )
    width = widths[0]
    if width not in KNOWN:
        allowed = "1024 (ViT-L), 1280 (ViT-H), 1664 (ViT-bigG)"
        raise WeightsError(
            f"{header.path}: an image encoder of width {width}. Allowed: {allowed}, or a folder with {CONFIG}"
        )
    layers = {name.split(".")[3] for name in shapes if name.startswith(f"{HF}{LAYERS}")}
    fc1 = shapes.get(f"{HF}{LAYERS}0.mlp.fc1.weight", (4 * width,))
    heads, activation = KNOWN[width]
    return {
        "hidden_size": width,
        "intermediate_size": fc1[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": heads,
        "hidden_act": activation,
        "patch_size": patches[2],
        "image_size": math.isqrt(max(positions[0] - 1, 0)) * patches[2],
        "projection_dim": projection[1 if "visual.proj" in header.tensors else 0],
    }
