"""Shapes of the models: what arithmetic has to know of them before any weight is loaded."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


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


CONTROLNET_SHARE = 0.45  # of a UNet's parameters, about: it is its way down
BANDABLE = {"CrossAttnDownBlock2D", "DownBlock2D", "UNetMidBlock2DCrossAttn", "CrossAttnUpBlock2D", "UpBlock2D"}


@dataclass(frozen=True, slots=True)
class VaeShape:
    """A diffusers autoencoder: channels per level (full resolution first), whether its middle has attention."""

    channels: tuple[int, ...]
    layers: int
    attention: bool
    parameters: int


@dataclass(frozen=True, slots=True)
class Architecture:
    """A family's models; text_parameters counts all its text encoders."""

    unet: UNetShape
    vae: VaeShape
    text_parameters: int


_SD_VAE = VaeShape((128, 256, 512, 512), 2, True, 83_653_863)
_SD15 = UNetShape((320, 640, 1280, 1280), (1, 1, 1, 0), 2, 1, 768, (8, 8, 8, 8), 1, 859_520_964, 99_219_200, 361_279_120)
_SD21 = UNetShape((320, 640, 1280, 1280), (1, 1, 1, 0), 2, 1, 1024, (5, 10, 20, 20), 1, 865_910_724, 99_219_200, 364_228_240)
_SDXL = UNetShape((320, 640, 1280), (0, 2, 10), 2, 10, 2048, (5, 10, 20), 16, 2_567_463_684, 435_500_000, 1_251_014_160)
FAMILIES = {
    "sd15": Architecture(_SD15, _SD_VAE, 123_060_480),
    "sd21": Architecture(_SD21, _SD_VAE, 340_387_840),
    "sdxl": Architecture(_SDXL, _SD_VAE, 817_700_000),
}


def read_architecture(folder: Path) -> Architecture:
    """Reads the shapes of a model in diffusers layout; parameters are taken from the sizes of its float16 files."""
    unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
    levels = len(unet["block_out_channels"])
    depth = _per_level(unet.get("transformer_layers_per_block", 1), levels)
    depths = tuple(d if "CrossAttn" in kind else 0 for d, kind in zip(depth, unet["down_block_types"], strict=True))
    heads = _per_level(unet.get("num_attention_heads") or unet["attention_head_dim"], levels)
    parameters = _parameters(folder / "unet")
    shape = UNetShape(
        channels=tuple(unet["block_out_channels"]),
        depths=depths,
        layers=unet["layers_per_block"],
        middle_depth=depth[-1],
        text_dim=unet["cross_attention_dim"],
        heads=heads,
        f_divisor=1,
        parameters=parameters,
        linear_parameters=_parameters(folder / "linfusion"),
        controlnet_parameters=int(CONTROLNET_SHARE * parameters),
        bandable={*unet["down_block_types"], *unet["up_block_types"], unet["mid_block_type"]} <= BANDABLE,
    )
    attention = bool(vae.get("mid_block_add_attention", True))
    vae_shape = VaeShape(tuple(vae["block_out_channels"]), vae["layers_per_block"], attention, _parameters(folder / "vae"))
    return Architecture(shape, vae_shape, _parameters(folder / "text_encoder"))


def _per_level(value: int | list[int], levels: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * levels


def _parameters(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2
