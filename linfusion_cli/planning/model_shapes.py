"""Shapes of the models: what arithmetic has to know of them before any weight is loaded."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.adapter_files import adapter_file, encoder_folder, lora_file, merged_parameters
from linfusion_cli.weights.locate import find
from linfusion_cli.weights.safetensors_header import read_header, weight_files


@dataclass(frozen=True, slots=True)
class UNetShape:
    """A diffusers UNet: channels per level, transformer blocks per level (0 = none), width of f in the linear attention."""

    channels: tuple[int, ...]
    depths: tuple[int, ...]
    layers: int
    middle_depth: int
    text_dim: int
    heads: tuple[int, ...]
    f_divisor: int  # f's width is the channels over this
    parameters: int
    linear_parameters: int
    controlnet_parameters: int
    bandable: bool = True  # built of blocks that can run in bands

    @property
    def streamed_parameters(self) -> int:
        """About what is on the device when weights are streamed: two transformer blocks, or a ResNet block, and the small parts."""
        c = max(self.channels)
        return 2 * (14 * c * c + 4 * c * self.text_dim + 4 * c * c // self.f_divisor) + 36 * c * c


MIDDLE = "UNetMidBlock2DCrossAttn"  # of configs that are older than the key
BANDABLE = {"CrossAttnDownBlock2D", "DownBlock2D", MIDDLE, "CrossAttnUpBlock2D", "UpBlock2D"}


@dataclass(frozen=True, slots=True)
class VaeShape:
    """A diffusers autoencoder: channels per level (full resolution first), whether its middle has attention, whether float16 is too narrow for it."""

    channels: tuple[int, ...]
    layers: int
    attention: bool
    parameters: int
    upcast: bool = True

    def dtype(self, dtype: str) -> str:
        """The number format that it runs in, where the rest runs in `dtype`."""
        return "float32" if dtype == "float16" and self.upcast else dtype


@dataclass(frozen=True, slots=True)
class OnTop:
    """What is mounted on a model: parameters of LoRAs and of an IP-Adapter, those of its image encoder, and what files leave in memory."""

    mounted_parameters: int = 0
    text_encoder_parameters: int = 0
    held_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family's models, and what is mounted on them; text_parameters counts all its text encoders."""

    unet: UNetShape
    vae: VaeShape
    text_parameters: int
    on_top: OnTop = OnTop()


_SD_VAE = VaeShape((128, 256, 512, 512), 2, True, 83_653_863, upcast=False)
_XL_VAE = replace(_SD_VAE, upcast=True)
_SD15 = UNetShape(
    (320, 640, 1280, 1280), (1, 1, 1, 0), 2, 1, 768, (8, 8, 8, 8), 1, 859_520_964, 99_219_200, 361_279_120
)
_SD21 = UNetShape(
    (320, 640, 1280, 1280), (1, 1, 1, 0), 2, 1, 1024, (5, 10, 20, 20), 1, 865_910_724, 99_219_200, 364_228_240
)
_SDXL = UNetShape((320, 640, 1280), (0, 2, 10), 2, 10, 2048, (5, 10, 20), 16, 2_567_463_684, 435_500_000, 1_251_014_160)
FAMILIES = {
    "sd15": Architecture(_SD15, _SD_VAE, 123_060_480),
    "sd21": Architecture(_SD21, _SD_VAE, 340_387_840),
    "sdxl": Architecture(_SDXL, _XL_VAE, 817_700_000),
}


def read_on_top(loras: Iterable[str], ip_adapter: str, family: str) -> OnTop:
    """As the headers of the files say, of those that are on this machine."""
    try:
        headers = [read_header(lora_file(found)) for place in loras if (found := find(place))]
        lora_parameters, held = (
            sum(header.parameters + merged_parameters(header) for header in headers),
            sum(header.size_bytes for header in headers),
        )
        place = find(ip_adapter) if ip_adapter else None
        if place is None:
            return OnTop(lora_parameters, 0, held)
        adapter = adapter_file(place, family)
        return OnTop(
            lora_parameters + read_header(adapter).parameters, _parameters(encoder_folder(adapter, place)), held
        )
    except WeightsError:  # whoever loads them tells
        return OnTop()


def read_vae(folder: Path, like: VaeShape) -> VaeShape:
    """The shape of an autoencoder in diffusers layout. Raises WeightsError for a config that can't be read."""
    try:
        config = json.loads((folder / "config.json").read_text())
        return VaeShape(
            channels=tuple(config["block_out_channels"]),
            layers=config.get("layers_per_block", like.layers),
            attention=bool(config.get("mid_block_add_attention", True)),
            parameters=_parameters(folder) or like.parameters,
            upcast=bool(config.get("force_upcast", True)),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder}: the config of its autoencoder can't be read ({type(error).__name__}: {error})"
        ) from error


def read_architecture(folder: Path, family: str = "sd15", linfusion: Path | None = None) -> Architecture:
    """Reads the shapes of a model in diffusers layout; configs of any age. What the folder does not tell is the family's.

    linfusion: the folder of its linear attention, None for one inside. Raises WeightsError for a config that can't be read.
    """
    like = FAMILIES[family]
    try:
        unet = json.loads((folder / "unet" / "config.json").read_text())
        linear = _parameters(linfusion or folder / "linfusion") or like.unet.linear_parameters
        shape = _unet_shape(unet, like.unet, _parameters(folder / "unet") or like.unet.parameters, linear)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{folder}: the config of its UNet can't be read ({type(error).__name__}: {error})"
        ) from error
    texts = sum(_parameters(folder / name) for name in ("text_encoder", "text_encoder_2")) or like.text_parameters
    return Architecture(shape, read_vae(folder / "vae", like.vae), texts)


def _unet_shape(config: dict[str, Any], like: UNetShape, parameters: int, linear_parameters: int) -> UNetShape:
    levels = len(config["block_out_channels"])
    depth = _per_level(config.get("transformer_layers_per_block", 1), levels)
    return UNetShape(
        channels=tuple(config["block_out_channels"]),
        depths=tuple(
            d if "CrossAttn" in kind else 0 for d, kind in zip(depth, config["down_block_types"], strict=True)
        ),
        layers=config.get("layers_per_block", like.layers),
        middle_depth=depth[-1],
        text_dim=config["cross_attention_dim"],
        heads=_per_level(config.get("num_attention_heads") or config["attention_head_dim"], levels),
        f_divisor=like.f_divisor,
        parameters=parameters,
        linear_parameters=linear_parameters,
        controlnet_parameters=like.controlnet_parameters * parameters // like.parameters,
        bandable={*config["down_block_types"], *config["up_block_types"], config.get("mid_block_type", MIDDLE)}
        <= BANDABLE,
    )


def _per_level(value: int | list[int], levels: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * levels


def _parameters(folder: Path) -> int:
    """Of one part, as its files' headers tell; 0 if there are none, or damaged ones, which whoever loads them will tell."""
    try:
        return sum(read_header(path).parameters for path in weight_files(folder, "fp16"))
    except WeightsError:
        return 0
