"""Plain operators in the place of the fused kernels of norms and GEGLU, which want Triton."""

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.streaming import group_norm


def row_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each row (height, width, channels), in float32."""
    means = values.float().mean(1)
    return means, (values.float() - means.unsqueeze(1)).square().sum(1)


def affine(rows: Tensor, scale: Tensor, shift: Tensor, *, silu: bool) -> Tensor:
    """A norm's scale and shift of rows (1, channels, height, width), with or without SiLU."""
    y = group_norm.affine(rows, scale, shift)
    return F.silu(y) if silu else y


def gated(values: Tensor) -> Tensor:
    """GEGLU of (..., 2 dim)."""
    kept, gate = torch.chunk(values, 2, dim=-1)
    return kept * F.gelu(gate)
