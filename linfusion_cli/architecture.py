"""Shapes of the models, and what a pass through them costs: multiplications and live numbers, by arithmetic alone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.geometry import Size

TEXT_TOKENS = 77


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


@dataclass(frozen=True, slots=True)
class Cost:
    """Multiply-adds of a pass, and the numbers (not bytes) that are alive at its worst moment."""

    macs: float
    live: float


_SD_VAE = VaeShape((128, 256, 512, 512), 2, True, 83_653_863)
FAMILIES = {
    "sd15": Architecture(UNetShape((320, 640, 1280, 1280), (1, 1, 1, 0), 2, 1, 768, (8, 8, 8, 8), 1, 859_520_964, 99_219_200), _SD_VAE, 123_060_480),
    "sd21": Architecture(UNetShape((320, 640, 1280, 1280), (1, 1, 1, 0), 2, 1, 1024, (5, 10, 20, 20), 1, 865_910_724, 99_219_200), _SD_VAE, 340_387_840),
    "sdxl": Architecture(UNetShape((320, 640, 1280), (0, 2, 10), 2, 10, 2048, (5, 10, 20), 16, 2_567_463_684, 435_500_000), _SD_VAE, 817_700_000),
}


def read_architecture(folder: Path) -> Architecture:
    """Reads the shapes of a model in diffusers layout; parameters are taken from the sizes of its float16 files."""
    unet, vae = (json.loads((folder / part / "config.json").read_text()) for part in ("unet", "vae"))
    levels = len(unet["block_out_channels"])
    depth = _per_level(unet.get("transformer_layers_per_block", 1), levels)
    depths = tuple(d if "CrossAttn" in kind else 0 for d, kind in zip(depth, unet["down_block_types"], strict=True))
    heads = _per_level(unet.get("num_attention_heads") or unet["attention_head_dim"], levels)
    shape = UNetShape(
        channels=tuple(unet["block_out_channels"]),
        depths=depths,
        layers=unet["layers_per_block"],
        middle_depth=depth[-1],
        text_dim=unet["cross_attention_dim"],
        heads=heads,
        f_divisor=1,
        parameters=_parameters(folder / "unet"),
        linear_parameters=_parameters(folder / "linfusion"),
    )
    attention = bool(vae.get("mid_block_add_attention", True))
    vae_shape = VaeShape(tuple(vae["block_out_channels"]), vae["layers_per_block"], attention, _parameters(folder / "vae"))
    return Architecture(shape, vae_shape, _parameters(folder / "text_encoder"))


def _per_level(value: int | list[int], levels: int) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) else (value,) * levels


def _parameters(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors")) // 2


def unet_cost(shape: UNetShape, latent: Size, band_rows: int, *, linear: bool) -> Cost:
    """One pass of the UNet for one sample, whole (band_rows 0) or in bands of so many rows."""
    total, skips, worst = 9.0 * 8 * shape.channels[0] * latent.area, float(shape.channels[0] * latent.area), 0.0
    previous = shape.channels[0]
    for level, channels in enumerate(shape.channels):
        places = _places(latent, level)
        for layer in range(shape.layers):
            total += _level(shape, level, previous if layer == 0 else channels, places, shape.depths[level], linear=linear)
            skips += channels * places
        if level + 1 < len(shape.channels):
            total += 9 * channels**2 * _places(latent, level + 1)
            skips += channels * _places(latent, level + 1)
        previous = channels
    last = len(shape.channels) - 1
    total += _level(shape, last, previous, _places(latent, last), shape.middle_depth, linear=linear) + _resnet(previous, previous) * _places(latent, last)
    for level in reversed(range(len(shape.channels))):
        channels, places = shape.channels[level], _places(latent, level)
        below = shape.channels[max(level - 1, 0)]
        for layer in range(shape.layers + 1):
            skip = below if layer == shape.layers else channels
            total += _level(shape, level, (previous if layer == 0 else channels) + skip, places, shape.depths[level], linear=linear)
            worst = max(worst, _live(shape, level, (previous if layer == 0 else channels) + skip, places) + (shape.channels[0] * latent.area if level else 0))
        if level:
            total += 9 * channels**2 * _places(latent, level - 1)
        previous = channels
    first, second = shape.channels[:2]
    if band_rows:
        rows = min(band_rows + 2, latent.height) * latent.width
        return Cost(total, max(skips, ((shape.layers + 2) * first + second) * latent.area) + _live(shape, 0, first + second, rows))
    return Cost(total, max(worst, skips + _live(shape, 0, first, latent.area) * 0.8))


def _places(latent: Size, level: int) -> int:
    side = 1 << level
    return -(-latent.width // side) * -(-latent.height // side)


def _resnet(channels_in: int, channels: int) -> float:
    return 9.0 * channels_in * channels + 9 * channels**2 + (channels_in * channels if channels_in != channels else 0)


def _level(shape: UNetShape, level: int, channels_in: int, places: int, depth: int, *, linear: bool) -> float:
    """Multiply-adds of a ResNet block and its transformer over `places`."""
    c = shape.channels[level]
    reading = 4 * c * c / shape.f_divisor + 2 * c * c / shape.heads[level] if linear else 2.0 * c * places
    attention = 4 * c * c + reading
    block = attention + 2 * c * c + 2 * c * TEXT_TOKENS + 12 * c * c
    return places * (_resnet(channels_in, c) + (2 * c * c + depth * block if depth else 0))


def _live(shape: UNetShape, level: int, channels_in: int, places: int) -> float:
    """Numbers alive in the level's hungriest layer: the ResNet block, or the feed-forward with its gate."""
    c = shape.channels[level]
    resnet = 3 * channels_in + 2 * c
    feed_forward = 19 * c if shape.depths[level] else 0
    return float(places * max(resnet, feed_forward))


def vae_cost(shape: VaeShape, picture: Size, band_px: int, *, encode: bool) -> Cost:
    """One decode (or encode) in bands, each level's activations parked: two or three of them at once."""
    top = len(shape.channels) - 1
    deepest, places = shape.channels[top], picture.area / 4**top
    total = places * (4 * 9 * deepest**2 + (2 * deepest * places + 4 * deepest**2 if shape.attention else 0))
    live = 3 * deepest * places
    layers = shape.layers if encode else shape.layers + 1
    for level in range(top, -1, -1):
        channels, places = shape.channels[level], picture.area / 4**level
        entering = shape.channels[max(level - 1, 0)] if encode else shape.channels[min(level + 1, top)]
        total += places * (_resnet(entering, channels) + (layers - 1) * _resnet(channels, channels))
        if encode:
            total += places / 4 * 9 * channels**2 if level < top else 0
            live = max(live, places * 2 * channels + (picture.area * 3 if level == 0 else 0))
        else:
            total += (3 if level == 0 else 1) * places * 4 * entering**2 if level < top else 0  # upsampling: 2x2 taps, at the end in three sweeps
            live = max(live, places * 2 * channels, places * channels + places * entering / (4 if level == 0 else 1))
    return Cost(total, live + band_px * picture.width * max(shape.channels[0], shape.channels[1]) * 6)
