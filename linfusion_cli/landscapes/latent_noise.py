"""Noise as a denoiser leaves it in latents: a decoder learns to draw from it, enlarged images of a training have it."""

from __future__ import annotations

import torch
from torch import Tensor


def with_noise(latents: Tensor, largest: float, draw: torch.Generator) -> Tensor:
    """Latents (batch, 4, height, width) with noise; each image's deviation is its own, from 0 to `largest`."""
    deviation = largest * torch.rand((len(latents), 1, 1, 1), generator=draw)
    return latents + (deviation * torch.randn(latents.shape, generator=draw)).to(latents.device)
