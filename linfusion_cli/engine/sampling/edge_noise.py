"""Edge-weighted extra noise before a stage is noised (RNA of LSRNA, arXiv 2503.18446): detail grows where edges are."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

_SOBEL = ((-1.0, 0.0, 1.0), (-2.0, 0.0, 2.0), (-1.0, 0.0, 1.0))
STRONG_QUANTILE = 0.98  # gradients from here on count as a full edge


def edge_map(latents: Tensor) -> Tensor:
    """How much of an edge is at each latent, 0 to 1: (batch, 1, height, width) of (batch, channels, height, width).

    The paper averages Canny edges of the decoded image over each latent. Here the gradient of the latents themselves is
    taken, which needs no decoded image: Sobel's operator, summed over channels, over its own 98th percentile.
    """
    channels = latents.shape[1]
    across = torch.tensor(_SOBEL, dtype=latents.dtype, device=latents.device)
    kernels = torch.stack([across, across.T]).unsqueeze(1).repeat(channels, 1, 1, 1)
    padded = F.pad(latents, (1, 1, 1, 1), mode="replicate")
    strength = F.conv2d(padded, kernels, groups=channels).pow(2).sum(1, keepdim=True).sqrt()
    full = _quantile(strength.flatten(1), STRONG_QUANTILE).view(-1, 1, 1, 1)
    return torch.where(full > 0, strength / full.clamp(min=torch.finfo(latents.dtype).tiny), 0.0).clamp(max=1)


def with_edge_noise(latents: Tensor, noise: Tensor, weight: float) -> Tensor:
    """latents + weight * edges * noise: g += map * eps in the paper, whose map goes from 0 to 1.2. Shapes are equal."""
    return latents + weight * edge_map(latents) * noise


def _quantile(values: Tensor, part: float) -> Tensor:
    """The quantile of each row (batch, count), for any count: torch.quantile stops at 16 million."""
    rank = max(1, round(values.shape[1] * part))
    return values.kthvalue(rank, dim=1).values
