"""Shapes of the models: what arithmetic has to know of them before any weight is loaded."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import read_json
from linfusion_cli.models import family_folder
from linfusion_cli.weights.adapter_files import merged_parameters
from linfusion_cli.weights.families import FAMILY_ROWS, FamilyRow
from linfusion_cli.weights.safetensors_header import Header
from linfusion_cli.weights.single_file_layouts import TEXT_ENCODERS, named
from linfusion_cli.weights.unet_file import unet_config
from linfusion_cli.weights.unet_settings import MIDDLE, PLAIN_MIDDLE
from linfusion_cli.weights.unet_shapes import UNET_DEFAULTS
from linfusion_cli.weights.weight_file import WeightFile


@dataclass(frozen=True, slots=True)
class UNetShape:
    """A diffusers UNet.

    channels, depths, heads: of each level, full resolution first; depths counts transformer blocks (0: none)
    layers:                  ResNet blocks per level on the way down
    middle_depth:            transformer blocks in the middle
    text_dim:                of a token of the prompt
    f_divisor:               the width of f in the linear attention is the channels divided by it
    parameters:              of the UNet, of its linear attention, and of one ControlNet for it
    bandable:                all its blocks can run in bands
    told_guidance:           it is told the guidance scale (arXiv 2310.04378) and needs no second prediction
    """

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    layers: int
    middle_depth: int
    text_dim: int
    heads: tuple[int, ...]
    f_divisor: int
    parameters: int
    linear_parameters: int
    controlnet_parameters: int
    bandable: bool = True
    told_guidance: bool = False

    @property
    def streamed_parameters(self) -> int:
        """About how many lie on the device when weights are streamed: three transformer blocks and a ResNet block.

        The block that runs, the one that sums for the next, and the one that is on its way.
        """
        c = max(self.channels)
        return 3 * (14 * c * c + 4 * c * self.text_dim + 4 * c * c // self.f_divisor) + 36 * c * c


BANDABLE = {"CrossAttnDownBlock2D", "DownBlock2D", MIDDLE, PLAIN_MIDDLE, "CrossAttnUpBlock2D", "UpBlock2D"}


@dataclass(frozen=True, slots=True)
class VaeShape:
    """A diffusers autoencoder.

    channels:  of each level, full resolution first; layers: ResNet blocks per level of the encoder
    attention: its middle block has one
    upcast:    float16 is too narrow for it
    """

    channels: tuple[int, ...]
    layers: int
    attention: bool
    parameters: int
    upcast: bool = True

    def dtype(self, dtype: str) -> str:
        """The number format of the autoencoder, where the rest runs in `dtype`."""
        return "float32" if dtype == "float16" and self.upcast else dtype


@dataclass(frozen=True, slots=True)
class OnTop:
    """The adapters of a model.

    mounted_parameters:      of LoRAs and an IP-Adapter
    text_encoder_parameters: of the IP-Adapter's image encoder
    held_bytes:              what reading their files leaves in memory
    """

    mounted_parameters: int = 0
    text_encoder_parameters: int = 0
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """The components of a model, and its adapters; text_parameters: of all its text encoders."""

    unet: UNetShape
    vae: VaeShape
    text_parameters: int
    on_top: OnTop = OnTop()


@cache
def family_architecture(family: str) -> Architecture:
    """The shapes of a family's own models, by its configs in models/families/."""
    row, folder = FAMILY_ROWS[family], family_folder(family)
    count = row.parameters
    unet = _unet_shape(read_json(folder / "unet" / "config.json"), row, count.unet, count.linear_attention)
    config = read_json(folder / "vae" / "config.json")
    vae = VaeShape(
        channels=tuple(config["block_out_channels"]),
        layers=config["layers_per_block"],
        attention=True,
        parameters=count.vae,
        upcast=config["force_upcast"],
    )
    return Architecture(unet, vae, count.text_encoders)


def read_on_top(
    loras: Iterable[WeightFile],
    ip_adapter: WeightFile | None,
    ip_encoder: WeightFile | None,
    staged_loras: Iterable[WeightFile] = (),
) -> OnTop:
    """The adapters, as their headers say; those that are not on this machine count nothing.

    staged_loras: those that act in some stages alone, which are merged whole
    """
    found = [
        (header, whole)
        for files, whole in ((loras, False), (staged_loras, True))
        for file in files
        for header in file.headers
    ]
    mounted = sum(header.parameters + merged_parameters(header, whole=whole) for header, whole in found)
    held_bytes = sum(header.size_bytes for header, _ in found)
    if ip_adapter is None or ip_adapter.path is None:
        return OnTop(mounted, 0, held_bytes)
    encoder = sum(header.parameters for header in ip_encoder.headers) if ip_encoder is not None else 0
    return OnTop(mounted + ip_adapter.header.parameters, encoder, held_bytes)


def with_controlnets(unet: UNetShape, controlnets: Iterable[WeightFile]) -> UNetShape:
    """The shape with as many parameters per ControlNet as the largest here has, if these are more than usual.

    A ControlNet-union has those of its transformer and its modes, too.
    """
    counts = [sum(header.parameters for header in net.headers) for net in controlnets]
    return replace(unet, controlnet_parameters=max(unet.controlnet_parameters, *counts, 0))


def read_vae(folder: Path, headers: Iterable[Header], like: VaeShape) -> VaeShape:
    """Reads the shape of an autoencoder in diffusers layout. Raises WeightsError for a config that can't be read.

    headers: of its files; without any it has as many parameters as its family's
    """
    try:
        config = read_json(folder / "config.json")
        return VaeShape(
            channels=tuple(config["block_out_channels"]),
            layers=config.get("layers_per_block", like.layers),
            attention=bool(config.get("mid_block_add_attention", True)),
            parameters=_parameters(headers) or like.parameters,
            upcast=bool(config.get("force_upcast", like.upcast)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder}: the config of its autoencoder can't be read ({type(error).__name__}: {error})"
        ) from error


def read_architecture(
    model: WeightFile,
    family: str = "sd15",
    linfusion: WeightFile | None = None,
    unet: WeightFile | None = None,
    configs: Path | None = None,
) -> Architecture:
    """Reads the shapes of a model in diffusers layout, of any age, or in one file; of its family if it is not here.

    What the folders lack is taken from the family. linfusion: its linear attention; unet: another UNet, which is used
    instead of the model's; configs: of a model in one file, None for those of its family. Raises WeightsError for a
    config that can't be read.
    """
    like, config = family_architecture(family), unet_config(model, unet, configs or family_folder(family))
    if config is None:
        return like
    drawing = unet if unet is not None and unet.path is not None else model
    linear = _parameters(linfusion.headers) if linfusion is not None else 0
    shape = _unet_shape(
        config,
        FAMILY_ROWS[family],
        _unet_parameters(drawing) or like.unet.parameters,
        linear or like.unet.linear_parameters,
    )
    folder = model.open()
    if folder.is_file():
        return replace(like, unet=shape)
    encoders = [header for name in TEXT_ENCODERS for header in model.headers_of(folder / name)]
    own = folder / "vae"  # a folder may have none, and be used with another autoencoder
    vae = read_vae(own, model.headers_of(own), like.vae) if (own / "config.json").is_file() else like.vae
    return Architecture(shape, vae, _parameters(encoders) or like.text_parameters)


def _unet_shape(config: dict[str, Any], row: FamilyRow, parameters: int, linear_parameters: int) -> UNetShape:
    config = UNET_DEFAULTS | config
    levels = len(config["block_out_channels"])
    depth = tuple(map(_mean_depth, _per_level(config["transformer_layers_per_block"], levels)))
    return UNetShape(
        channels=tuple(config["block_out_channels"]),
        depths=tuple(
            d if "CrossAttn" in kind else 0 for d, kind in zip(depth, config["down_block_types"], strict=True)
        ),
        layers=config["layers_per_block"],
        middle_depth=0 if config["mid_block_type"] == PLAIN_MIDDLE else depth[-1],
        text_dim=config["cross_attention_dim"],
        heads=_per_level(
            config.get("num_attention_heads") or config["attention_head_dim"],
            levels,
        ),
        f_divisor=row.f_divisor,
        parameters=parameters,
        linear_parameters=linear_parameters,
        controlnet_parameters=row.parameters.controlnet * parameters // row.parameters.unet,
        bandable={*config["down_block_types"], *config["up_block_types"], config["mid_block_type"]} <= BANDABLE,
        told_guidance=bool(config.get("time_cond_proj_dim")),
    )


def _per_level(value: Any, levels: int) -> tuple[Any, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * levels


def _mean_depth(blocks: int | list[int]) -> int:
    """Transformer blocks of a level's layers, which may have different numbers of them: the mean, rounded up."""
    return blocks if isinstance(blocks, int) else -(-sum(blocks) // len(blocks))


def _unet_parameters(drawing: WeightFile) -> int:
    """Those of a UNet, in its folder or in one file with other parts; 0 if none of its files is on this machine."""
    tensors = drawing.unet_tensors
    way = named(tensors, "unet")
    prefix = "" if way is None else way.prefix
    return sum(math.prod(info.shape) for name, info in tensors.items() if name.startswith(prefix))


def _parameters(headers: Iterable[Header]) -> int:
    """The parameters of a component; 0 if none of its files is on this machine, which loading reports."""
    return sum(header.parameters for header in headers)
