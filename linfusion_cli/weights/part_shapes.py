"""Names and shapes of the tensors of autoencoders, CLIP's encoders and T2I-Adapters, by their configs, without torch.

A test holds them against the networks of the installed diffusers and transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.layer_shapes import Shapes, convolution, linear, norm, resnet

VAE_DEFAULTS: dict[str, Any] = {"block_out_channels": (64,), "layers_per_block": 1, "norm_num_groups": 32}
CLIP_DEFAULTS: dict[str, Any] = {
    "hidden_size": 512,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "vocab_size": 49408,
    "max_position_embeddings": 77,
    "projection_dim": 512,
}
VISION_DEFAULTS = CLIP_DEFAULTS | {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "image_size": 224,
    "patch_size": 32,
}
LATENTS, COLORS = 4, 3


def vae_shapes(config: Mapping[str, Any], source: object) -> Shapes:
    """Of an AutoencoderKL whose config passed the rules. Raises WeightsError for settings that don't agree."""
    given = VAE_DEFAULTS | dict(config)
    channels, layers = tuple(given["block_out_channels"]), given["layers_per_block"]
    for width in channels:
        if width % given["norm_num_groups"]:
            what = f"{width} channels can't be parted into {given['norm_num_groups']} groups (norm_num_groups)"
            raise WeightsError(f"{source}: {what}")
    attends = given.get("mid_block_add_attention", True)
    shapes = _side("encoder", channels, layers, "down", attends=attends)
    shapes |= convolution("encoder.conv_in", COLORS, channels[0])
    shapes |= norm("encoder.conv_norm_out", channels[-1]) | convolution("encoder.conv_out", channels[-1], 2 * LATENTS)
    if given.get("use_quant_conv", True):
        shapes |= convolution("quant_conv", 2 * LATENTS, 2 * LATENTS, 1)
    if given.get("use_post_quant_conv", True):
        shapes |= convolution("post_quant_conv", LATENTS, LATENTS, 1)
    shapes |= _side("decoder", channels[::-1], layers + 1, "up", attends=attends)
    shapes |= convolution("decoder.conv_in", LATENTS, channels[-1])
    return shapes | norm("decoder.conv_norm_out", channels[0]) | convolution("decoder.conv_out", channels[0], COLORS)


def _side(side: str, channels: tuple[int, ...], layers: int, way: str, *, attends: bool) -> Shapes:
    """The levels of one half, in the order in which they are computed, and its middle block."""
    shapes, before = Shapes(), channels[0]
    for level, width in enumerate(channels):
        name = f"{side}.{way}_blocks.{level}"
        for layer in range(layers):
            shapes |= resnet(f"{name}.resnets.{layer}", width if layer else before, width)
        if level < len(channels) - 1:
            shapes |= convolution(f"{name}.{way}samplers.0.conv", width, width)
        before = width
    width, middle = channels[-1] if way == "down" else channels[0], f"{side}.mid_block"
    for number in (0, 1):
        shapes |= resnet(f"{middle}.resnets.{number}", width, width)
    if attends:
        shapes |= norm(f"{middle}.attentions.0.group_norm", width)
        for one in ("to_q", "to_k", "to_v", "to_out.0"):
            shapes |= linear(f"{middle}.attentions.0.{one}", width, width)
    return shapes


def text_encoder_shapes(config: Mapping[str, Any], source: object) -> Shapes:
    """Of CLIP's text encoder, without a prefix, and with its projection where its architecture has one."""
    given = CLIP_DEFAULTS | dict(config)
    width = given["hidden_size"]
    shapes: Shapes = {
        "embeddings.token_embedding.weight": (given["vocab_size"], width),
        "embeddings.position_embedding.weight": (given["max_position_embeddings"], width),
    }
    shapes |= _clip_layers(given) | norm("final_layer_norm", width)
    if (given.get("architectures") or [""])[0] == "CLIPTextModelWithProjection":
        shapes |= linear("text_projection", width, given["projection_dim"], bias=False)
    return shapes


def image_encoder_shapes(config: Mapping[str, Any], source: object) -> Shapes:
    """Of CLIP's image encoder with its projection, under the names of transformers, without `vision_model.`."""
    given = VISION_DEFAULTS | dict(config)
    width, patch = given["hidden_size"], given["patch_size"]
    shapes: Shapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.position_embedding.weight": ((given["image_size"] // patch) ** 2 + 1, width),
    }
    shapes |= convolution("embeddings.patch_embedding", COLORS, width, patch, bias=False)
    shapes |= norm("pre_layrnorm", width) | _clip_layers(given) | norm("post_layernorm", width)
    return shapes | linear("visual_projection", width, given["projection_dim"], bias=False)


def _clip_layers(config: Mapping[str, Any]) -> Shapes:
    shapes, width, inner = Shapes(), config["hidden_size"], config["intermediate_size"]
    for name in (f"encoder.layers.{number}" for number in range(config["num_hidden_layers"])):
        for one in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{name}.self_attn.{one}", width, width)
        shapes |= linear(f"{name}.mlp.fc1", width, inner) | linear(f"{name}.mlp.fc2", inner, width)
        shapes |= norm(f"{name}.layer_norm1", width) | norm(f"{name}.layer_norm2", width)
    return shapes


def t2i_adapter_shapes(config: Mapping[str, Any], source: object) -> Shapes:
    """Of a T2I-Adapter, under the names of diffusers."""
    kind, factor = config.get("adapter_type", "full_adapter"), config.get("downscale_factor", 8)
    channels, blocks = tuple(config.get("channels", (320, 640, 1280, 1280))), config.get("num_res_blocks", 2)
    folded = config.get("in_channels", COLORS) * factor**2
    if kind == "light_adapter":
        return _light_adapter((folded, *channels, channels[-1]), blocks)
    shapes, before = convolution("adapter.conv_in", folded, channels[0]), channels[0]
    for level, width in enumerate(channels):
        name = f"adapter.body.{level}"
        if kind == "full_adapter_xl" and level not in (1, 2):
            before = width
        shapes |= convolution(f"{name}.in_conv", before, width, 1) if before != width else {}
        for number in range(blocks):
            shapes |= convolution(f"{name}.resnets.{number}.block1", width, width)
            shapes |= convolution(f"{name}.resnets.{number}.block2", width, width, 1)
        before = width
    return shapes


def _light_adapter(widths: tuple[int, ...], blocks: int) -> Shapes:
    shapes = Shapes()
    for level, (before, after) in enumerate(pairwise(widths)):
        name, middle = f"adapter.body.{level}", after // 4
        shapes |= convolution(f"{name}.in_conv", before, middle, 1) | convolution(f"{name}.out_conv", middle, after, 1)
        for number in range(blocks):
            for one in ("block1", "block2"):
                shapes |= convolution(f"{name}.resnets.{number}.{one}", middle, middle)
    return shapes
