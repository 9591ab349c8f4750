"""GroupNorm's statistics, its application with SiLU, and GEGLU, each in one kernel; equal to the plain operators.

The plain path of a norm in half precision reads a band five times for its statistics and twice for its application.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.attention.fused_attention import has_triton
from linfusion_cli.engine.attention.kernel_choice import tried

DTYPES = (torch.float16, torch.bfloat16, torch.float32)
COLUMNS, CHANNELS = 32, 64  # of a row that a program reads at a time
SIZE = 1024  # values of a program


def can_fuse(values: Tensor) -> bool:
    """Whether the kernels can take values of this number format, on this device."""
    return values.dtype in DTYPES and values.device.type == "cuda" and has_triton()


def row_moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and sum of squared deviations of each row and channel of (height, width, channels): both (height, channels).

    In float32. Every row counts alone, so bands and ranks do not matter.
    """
    height, width, channels = values.shape
    means, deviations = torch.empty(2, height, channels, dtype=torch.float32, device=values.device)
    grid = (height, -(-channels // CHANNELS))
    if height:
        _kernels().row_moments[grid](
            values, means, deviations, width, channels, *values.stride(), COLUMNS=COLUMNS, CHANNELS=CHANNELS
        )
    return means, deviations


def affine(rows: Tensor, scale: Tensor, shift: Tensor, *, silu: bool) -> Tensor:
    """rows (1, channels, height, width) * scale + shift, and SiLU after it if `silu`; scale, shift: (channels,)."""
    channels_last = rows.is_contiguous(memory_format=torch.channels_last)
    rows = rows if channels_last else rows.contiguous()
    out, count = torch.empty_like(rows), rows.numel()
    inner = 1 if channels_last else rows.shape[2] * rows.shape[3]
    grid = (-(-count // SIZE),)
    if count:
        _kernels().scale_shift[grid](
            rows, scale.float(), shift.float(), out, count, rows.shape[1], inner, SILU=silu, SIZE=SIZE
        )
    return out


def gated(values: Tensor) -> Tensor:
    """GEGLU (arXiv 2002.05202): (..., 2 * channels) to (..., channels)."""
    values, channels = values.contiguous(), values.shape[-1] // 2
    out = values.new_empty(*values.shape[:-1], channels)
    if out.numel():
        _kernels().gated[(-(-out.numel() // SIZE),)](values, out, out.numel(), channels, SIZE=SIZE)
    return out


def fault_of(device: torch.device, dtype: torch.dtype) -> str:
    """Why the kernels can't be used on a device; "" if they give there what the plain operators give."""
    drawn = torch.randn(1, 2 * CHANNELS + 6, 5, 2 * COLUMNS + 3, generator=torch.Generator().manual_seed(0)) + 3
    rows = drawn.to(device, dtype)
    if not can_fuse(rows):
        return "no Triton" if not has_triton() else f"no kernels for {dtype}"
    return tried(lambda: (*_pairs(rows), *_pairs(rows.to(memory_format=torch.channels_last))))


def _pairs(rows: Tensor) -> tuple[tuple[Tensor, Tensor], ...]:
    """What the kernels give, and the plain operators in float32."""
    values, exact = rows[0].permute(1, 2, 0), rows.float()
    scale, shift = torch.linspace(-1, 2, 2 * rows.shape[1], device=rows.device).chunk(2)
    means, deviations = row_moments(values)
    plain_means = exact[0].mean(2).T
    return (
        (means, plain_means),
        (deviations, (exact[0] - plain_means.T.unsqueeze(2)).square().sum(2).T),
        (affine(rows, scale, shift, silu=True), F.silu(exact * scale.view(-1, 1, 1) + shift.view(-1, 1, 1))),
        (gated(values), _plain_gated(values.float())),
    )


def _plain_gated(values: Tensor) -> Tensor:
    kept, gate = values.chunk(2, dim=-1)
    return kept * F.gelu(gate)


def feed_forward(layers: Any, tokens: Tensor, *, fused: bool) -> Tensor:
    """A diffusers FeedForward, with GEGLU in one kernel if `fused` and if it has one."""
    first = layers.net[0]
    if not fused or type(first).__name__ != "GEGLU" or not isinstance(first.proj, nn.Module):
        plain: Tensor = layers(tokens)
        return plain
    hidden = gated(first.proj(tokens))
    for layer in layers.net[1:]:
        hidden = layer(hidden)
    return hidden


def _kernels() -> Any:
    from linfusion_cli.engine.streaming import triton_layers  # needs Triton, which not every build of torch brings

    return triton_layers
