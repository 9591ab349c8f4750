"""The guidance scale as numbers that a latent consistency model reads (arXiv 2310.04378)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LONGEST_PERIOD = 10_000.0


def guidance_embedding(guidance_scale: float, dim: int) -> Tensor:
    """Sines and cosines of w = guidance_scale - 1, (1, dim) in float32, as diffusers' pipelines make them.

    dim: from 4; an odd one ends with a 0
    """
    half = dim // 2
    frequencies = torch.exp(torch.arange(half, dtype=torch.float32) * -(math.log(LONGEST_PERIOD) / (half - 1)))
    angles = torch.tensor(guidance_scale - 1, dtype=torch.float32) * 1000 * frequencies
    embedding = torch.cat([angles.sin(), angles.cos()])
    return torch.nn.functional.pad(embedding, (0, dim % 2))[None]
