"""Names and shapes of the tensors of a UNet or a ControlNet, by its config: as diffusers makes them, without torch.

A test holds them against the networks of the installed diffusers.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.config_values import shown
from linfusion_cli.weights.layer_shapes import Shapes, convolution, linear, norm, resnet

UNET_DEFAULTS: dict[str, Any] = {
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "transformer_layers_per_block": 1,
    "mid_block_type": "UNetMidBlock2DCrossAttn",
    "cross_attention_dim": 1280,
    "norm_num_groups": 32,
    "block_out_channels": (320, 640, 1280, 1280),
    "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
}
CONTROLNET_DEFAULTS = {key: value for key, value in UNET_DEFAULTS.items() if key != "up_block_types"}
CONTROLNET_DEFAULTS |= {"conditioning_embedding_out_channels": (16, 32, 96, 256)}
UNION_DEFAULTS: dict[str, Any] = {
    "num_control_type": 6,
    "num_trans_channel": 320,
    "num_trans_layer": 1,
    "num_proj_channel": 320,
    "conditioning_embedding_out_channels": (48, 96, 192, 384),
}
# Lists with a value for each level.
LISTS: tuple[str, ...] = ("down_block_types", "up_block_types", "attention_head_dim", "transformer_layers_per_block")
LISTS += ("reverse_transformer_layers_per_block",)
LATENTS, COLORS = 4, 3
ATTENDS, RESNETS = "CrossAttn", "Resnet"  # in the names of blocks: attention, and sampling by a ResNet block


def unet_shapes(config: Mapping[str, Any], source: object) -> Shapes:
    """Of a UNet whose config passed the rules. Raises WeightsError, naming `source`, for settings that don't agree."""
    net = _Net(UNET_DEFAULTS | dict(config), source)
    return net.stem() | net.down() | net.middle() | net.up() | net.head()


def controlnet_shapes(config: Mapping[str, Any], source: object, *, union: bool = False) -> Shapes:
    """The same of a ControlNet, or of a ControlNet-union."""
    given = CONTROLNET_DEFAULTS | (UNION_DEFAULTS if union else {}) | dict(config)
    net = _Net(given | ({"mid_block_type": UNET_DEFAULTS["mid_block_type"]} if union else {}), source)
    shapes = net.stem() | net.down() | net.middle() | _condition(given) | _zero_convolutions(net)
    return shapes | (_union(net) if union else {})


class _Net:
    """What the levels of a config say, and the tensors of each side of the network."""

    def __init__(self, config: Mapping[str, Any], source: object) -> None:
        self.config, self.source = config, source
        self.channels = tuple(config["block_out_channels"])
        self.levels, self.layers = len(self.channels), int(config["layers_per_block"])
        self.time = 4 * self.channels[0]
        for key in LISTS:
            value = config.get(key)
            if isinstance(value, list | tuple) and len(value) != self.levels:
                raise WeightsError(f"{source}: its {key} has {len(value)} values, block_out_channels {self.levels}")
        self.heads = self._per_level(config["attention_head_dim"])
        self.depths = self._per_level(config["transformer_layers_per_block"])
        for width in self.channels:
            if width % config["norm_num_groups"]:
                what = f"{width} channels can't be parted into {config['norm_num_groups']} groups (norm_num_groups)"
                raise WeightsError(f"{source}: {what}")

    def stem(self) -> Shapes:
        first, time, dim = self.channels[0], self.time, self.config.get("time_cond_proj_dim")
        shapes = convolution("conv_in", LATENTS, first)
        shapes |= linear("time_embedding.linear_1", first, time) | linear("time_embedding.linear_2", time, time)
        if dim:
            shapes |= linear("time_embedding.cond_proj", dim, first, bias=False)
        if self.config.get("addition_embed_type") is not None:
            shapes |= linear("add_embedding.linear_1", self.number("projection_class_embeddings_input_dim"), time)
            shapes |= linear("add_embedding.linear_2", time, time)
            self.number("addition_time_embed_dim")
        return shapes

    def down(self) -> Shapes:
        shapes, before = Shapes(), self.channels[0]
        for level, (kind, width) in enumerate(zip(self.config["down_block_types"], self.channels, strict=True)):
            name = f"down_blocks.{level}"
            for layer in range(self.layers):
                shapes |= resnet(f"{name}.resnets.{layer}", width if layer else before, width, self.time)
                if ATTENDS in kind:
                    depth = self._depth(self.depths[level], layer)
                    shapes |= self._transformer(f"{name}.attentions.{layer}", width, self.heads[level], depth)
            if level < self.levels - 1:
                shapes |= self._sampler(f"{name}.downsamplers.0", width, kind)
            before = width
        return shapes

    def middle(self) -> Shapes:
        width, name, kind = self.channels[-1], "mid_block", self.config["mid_block_type"]
        if kind is None:
            return {}
        shapes = resnet(f"{name}.resnets.0", width, width, self.time)
        if ATTENDS in kind:
            depth = self._depth(self.depths[-1], 0)
            shapes |= self._transformer(f"{name}.attentions.0", width, self.heads[-1], depth)
            shapes |= resnet(f"{name}.resnets.1", width, width, self.time)
        return shapes

    def up(self) -> Shapes:
        shapes, widths, before = Shapes(), self.channels[::-1], self.channels[-1]
        depths, heads = self._upward_depths(), self.heads[::-1]
        for level, (kind, width) in enumerate(zip(self.config["up_block_types"], widths, strict=True)):
            name, skip = f"up_blocks.{level}", widths[min(level + 1, self.levels - 1)]
            for layer in range(self.layers + 1):
                beside = skip if layer == self.layers else width
                shapes |= resnet(f"{name}.resnets.{layer}", (width if layer else before) + beside, width, self.time)
                if ATTENDS in kind:
                    depth = self._depth(depths[level], layer)
                    shapes |= self._transformer(f"{name}.attentions.{layer}", width, heads[level], depth)
            if level < self.levels - 1:
                shapes |= self._sampler(f"{name}.upsamplers.0", width, kind)
            before = width
        return shapes

    def head(self) -> Shapes:
        return norm("conv_norm_out", self.channels[0]) | convolution("conv_out", self.channels[0], LATENTS)

    def _sampler(self, name: str, width: int, kind: str) -> Shapes:
        return resnet(name, width, width, self.time) if RESNETS in kind else convolution(f"{name}.conv", width, width)

    def _transformer(self, name: str, width: int, heads: int, depth: int) -> Shapes:
        inner, text = width // heads * heads, self.config["cross_attention_dim"]
        if not inner:
            raise WeightsError(f"{self.source}: {heads} heads (attention_head_dim) of {width} channels")
        project = linear if self.config.get("use_linear_projection") else _one
        shapes = norm(f"{name}.norm", width) | project(f"{name}.proj_in", width, inner)
        for block in (f"{name}.transformer_blocks.{number}" for number in range(depth)):
            for one, reads in (("attn1", inner), ("attn2", text)):
                shapes |= linear(f"{block}.{one}.to_q", inner, inner, bias=False)
                shapes |= linear(f"{block}.{one}.to_k", reads, inner, bias=False)
                shapes |= linear(f"{block}.{one}.to_v", reads, inner, bias=False)
                shapes |= linear(f"{block}.{one}.to_out.0", inner, inner)
            shapes |= linear(f"{block}.ff.net.0.proj", inner, 8 * inner) | linear(f"{block}.ff.net.2", 4 * inner, inner)
            for number in (1, 2, 3):
                shapes |= norm(f"{block}.norm{number}", inner)
        return shapes | project(f"{name}.proj_out", inner, width)

    def _upward_depths(self) -> tuple[Any, ...]:
        given = self.config.get("reverse_transformer_layers_per_block")
        if given is not None:
            return self._per_level(given)
        if any(isinstance(depth, list | tuple) for depth in self.depths):
            what = "its transformer_layers_per_block has lists, its reverse_transformer_layers_per_block is missing"
            raise WeightsError(f"{self.source}: {what}")
        return self.depths[::-1]

    def _depth(self, depth: Any, layer: int) -> int:
        if not isinstance(depth, list | tuple):
            return int(depth)
        if layer >= len(depth):
            what = f"its transformer blocks per layer are {shown(list(depth))}, and none for layer {layer}"
            raise WeightsError(f"{self.source}: {what}")
        return int(depth[layer])

    def _per_level(self, value: Any) -> tuple[Any, ...]:
        return tuple(value) if isinstance(value, list | tuple) else (value,) * self.levels

    def number(self, key: str) -> int:
        """A setting that an embedding of the image's size needs. Raises WeightsError if it is missing."""
        value = self.config.get(key)
        if value is None:
            raise WeightsError(f"{self.source}: its {key} is missing, which addition_embed_type text_time asks for")
        return int(value)


def _one(name: str, inputs: int, outputs: int) -> Shapes:
    return convolution(name, inputs, outputs, 1)


def _condition(config: Mapping[str, Any]) -> Shapes:
    """The embedding of a control image."""
    name, widths = "controlnet_cond_embedding", tuple(config["conditioning_embedding_out_channels"])
    shapes = convolution(f"{name}.conv_in", COLORS, widths[0])
    for number, (before, after) in enumerate(pairwise(widths)):
        shapes |= convolution(f"{name}.blocks.{2 * number}", before, before)
        shapes |= convolution(f"{name}.blocks.{2 * number + 1}", before, after)
    return shapes | convolution(f"{name}.conv_out", widths[-1], config["block_out_channels"][0])


def _zero_convolutions(net: _Net) -> Shapes:
    """Those of every skip, and of the middle block."""
    widths = [net.channels[0]]
    for level, width in enumerate(net.channels):
        widths += [width] * (net.layers + (level < net.levels - 1))
    shapes = Shapes()
    for number, width in enumerate(widths):
        shapes |= _one(f"controlnet_down_blocks.{number}", width, width)
    return shapes | _one("controlnet_mid_block", net.channels[-1], net.channels[-1])


def _union(net: _Net) -> Shapes:
    """What tells a ControlNet-union what its image shows."""
    config, time = net.config, net.time
    width, kinds = config["num_trans_channel"], config["num_control_type"]
    shapes: Shapes = {"task_embedding": (kinds, width)}
    for name in (f"transformer_layes.{number}" for number in range(config["num_trans_layer"])):
        shapes |= {f"{name}.attn.in_proj_weight": (3 * width, width), f"{name}.attn.in_proj_bias": (3 * width,)}
        shapes |= linear(f"{name}.attn.out_proj", width, width)
        shapes |= norm(f"{name}.ln_1", width) | norm(f"{name}.ln_2", width)
        shapes |= linear(f"{name}.mlp.c_fc", width, 4 * width) | linear(f"{name}.mlp.c_proj", 4 * width, width)
    shapes |= linear("spatial_ch_projs", width, config["num_proj_channel"])
    embedding = net.number("addition_time_embed_dim") * kinds
    shapes |= linear("control_add_embedding.linear_1", embedding, time)
    return shapes | linear("control_add_embedding.linear_2", time, time)
