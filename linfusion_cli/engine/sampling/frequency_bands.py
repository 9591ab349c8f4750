"""Splits latents into a low and a high band of spatial frequencies: the one filter of mixing and of both guidances."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

LEAST = 2  # rows and columns: torch 2.13 shrinks an image to one column with the rows of another


def low_band(latents: Tensor, scale: float) -> Tensor:
    """LP(x) of ScaleDiff (arXiv 2510.25818): shrunk with antialiasing and enlarged again, both bilinear.

    latents: (batch, channels, height, width), float32 or float64; the result has the same shape and dtype
    scale:   side of the shrunk latents over that of the full ones, above 0 to 1; 1/8 keeps periods above 16 latents
    """
    height, width = latents.shape[-2:]
    small = (max(LEAST, round(height * scale)), max(LEAST, round(width * scale)))
    shrunk = F.interpolate(latents, size=small, mode="bilinear", antialias=True)
    return F.interpolate(shrunk, size=(height, width), mode="bilinear")


def with_low_band_of(reference: Tensor, latents: Tensor, scale: float) -> Tensor:
    """The high band of `latents` on the low band of `reference` (same shape): latents + LP(reference - latents)."""
    return latents + low_band(reference - latents, scale)  # LP is linear
