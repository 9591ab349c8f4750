"""Every tensor of a model in one file held against the configs that stand in for its own, before it is loaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_rules import check_config
from linfusion_cli.weights.config_shapes import SHAPES, difference
from linfusion_cli.weights.layer_shapes import Shape, Shapes
from linfusion_cli.weights.lora_layer_names import attending_blocks, original_name
from linfusion_cli.weights.pipeline_settings import read_json_object
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file import unused
from linfusion_cli.weights.single_file_layouts import Named, Naming, named
from linfusion_cli.weights.unet_settings import with_settings_of

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")
# The autoencoder's names by diffusers -> the original ones. The original ones
# count the levels on the way up from the end.
VAE_NAMES = (
    (r"(encoder\.down)_blocks\.(\d+)\.resnets\.(\d+)\.", r"\1.\2.block.\3."),
    (r"(decoder\.up)_blocks\.(\d+)\.resnets\.(\d+)\.", r"\1.\2.block.\3."),
    (r"(encoder\.down)_blocks\.(\d+)\.downsamplers\.0\.", r"\1.\2.downsample."),
    (r"(decoder\.up)_blocks\.(\d+)\.upsamplers\.0\.", r"\1.\2.upsample."),
    (r"mid_block\.resnets\.0\.", "mid.block_1."),
    (r"mid_block\.resnets\.1\.", "mid.block_2."),
    (r"mid_block\.attentions\.0\.group_norm\.", "mid.attn_1.norm."),
    (r"mid_block\.attentions\.0\.to_([qkv])\.", r"mid.attn_1.\1."),
    (r"mid_block\.attentions\.0\.to_out\.0\.", "mid.attn_1.proj_out."),
    (r"\.conv_shortcut\.", ".nin_shortcut."),
    (r"\.conv_norm_out\.", ".norm_out."),
)
# CLIP's names by transformers -> those of OpenCLIP.
OPEN_CLIP_NAMES = (
    (r"^embeddings\.token_embedding\.", "token_embedding."),
    (r"^embeddings\.position_embedding\.weight", "positional_embedding"),
    (r"^final_layer_norm\.", "ln_final."),
    (r"^text_projection\.weight", "text_projection"),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)
_FUSED = re.compile(r"\.self_attn\.[qkv]_proj\.(weight|bias)$")
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.")
_LEVEL = re.compile(r"(decoder\.up\.)(\d+)\.")


def check_single_file_shapes(header: Header, configs: Path, parts: Iterable[str] = PARTS, parameter: str = "") -> None:
    """Checks the tensors of each part that a file holds against the part's config in a folder in diffusers layout.

    parameter: the option that names the file, for the message.
    Raises WeightsError that names the file and the first tensor that is missing, of another shape, or not the part's.
    """
    for part in parts:
        way, path = named(header.tensors, part), configs / part / "config.json"
        if way is None or not path.is_file():
            continue
        config = read_json_object(path)
        if part == "unet":
            config = with_settings_of(header.tensors, config)
            check_config(part, config, header.path)
        _check(part, way, config, header, parameter)


def _check(part: str, way: Named, config: Mapping[str, Any], header: Header, parameter: str) -> None:
    expected = NAMES[way.naming](SHAPES[part](config, header.path), config)
    dropped = set(unused(header.tensors))
    given = {
        name.removeprefix(way.prefix): _plain(info.shape)
        for name, info in header.tensors.items()
        if name.startswith(way.prefix) and name not in dropped
    }
    if way.naming in ("clip", "open_clip"):
        given = _read_by_clip(given, expected, config["num_hidden_layers"])
    if what := difference({name: _plain(shape) for name, shape in expected.items()}, given):
        why = "the file is incomplete, or of a model of another architecture, which linfusion can't run"
        raise WeightsError(f"{header.path}: in its {part}, {what}: {why}", parameter=parameter)


def _plain(shape: Shape) -> Shape:
    """Without sides of 1 at the end: the original autoencoder has its attention as convolutions of 1x1."""
    return shape[:2] if shape[2:] == (1, 1) else shape


def _read_by_clip(given: Shapes, expected: Shapes, layers: int) -> Shapes:
    """What of a text encoder's tensors is read: OpenCLIP's files have layers behind the one whose output is used."""
    found = {name.removeprefix("text_model."): shape for name, shape in given.items()}
    for name in list(found):
        deeper = (match := _LAYER.match(name)) is not None and int(match[1]) >= layers
        if deeper or (name.startswith("text_projection") and name not in expected):
            del found[name]
    return found


def original_unet_shapes(expected: Shapes, config: Mapping[str, Any]) -> Shapes:
    """The shapes of a UNet's tensors, or of the part that a ControlNet has of it, under the original names."""
    attends, layers = attending_blocks(expected), int(config.get("layers_per_block", 2))
    found: Shapes = {}
    for name, shape in expected.items():
        layer, _, end = name.rpartition(".")
        found[f"{original_name(layer, layers, attends)}.{end}"] = shape
    return found


def _original_vae(expected: Shapes, config: Mapping[str, Any]) -> Shapes:
    last = len(config["block_out_channels"]) - 1
    renamed = ((_renamed(name, VAE_NAMES), shape) for name, shape in expected.items())
    return {_LEVEL.sub(lambda match: f"{match[1]}{last - int(match[2])}.", name): shape for name, shape in renamed}


def _open_clip(expected: Shapes, config: Mapping[str, Any]) -> Shapes:
    found: Shapes = {}
    for name, shape in expected.items():
        if (match := _FUSED.search(name)) is not None:
            name, shape = f"{name[: match.start()]}.attn.in_proj_{match[1]}", (3 * shape[0], *shape[1:])
        found[_renamed(name, OPEN_CLIP_NAMES)] = shape[::-1] if name == "text_projection.weight" else shape
    return found


def _renamed(name: str, pairs: Iterable[tuple[str, str]]) -> str:
    for pattern, new in pairs:
        name = re.sub(pattern, new, name)
    return name


NAMES: dict[Naming, Callable[[Shapes, Mapping[str, Any]], Shapes]] = {
    "diffusers": lambda expected, _: expected,
    "ldm_unet": original_unet_shapes,
    "ldm_vae": _original_vae,
    "clip": lambda expected, _: expected,
    "open_clip": _open_clip,
}
