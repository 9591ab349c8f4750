"""Kernels of GroupNorm and GEGLU for Triton; importing this module needs it. fused_layers.py calls them.

Offsets are 64-bit. Numbers are half or float32, sums float32, and every value is rounded once.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit  # type: ignore[untyped-decorator]
def row_moments(  # type: ignore[no-untyped-def]
    values,
    means,
    deviations,
    width,
    channels,
    row_stride,
    column_stride,
    channel_stride,
    COLUMNS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Mean and sum of squared deviations of one row, for CHANNELS channels, in one pass over memory.

    COLUMNS values of each channel are merged at a time (Chan, Golub and LeVeque 1983): no large sum of squares is ever
    subtracted from another.
    """
    row = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    known = channel < channels
    first = values + row * row_stride + channel.to(tl.int64)[None, :] * channel_stride
    mean = tl.zeros((CHANNELS,), dtype=tl.float32)
    deviation = tl.zeros((CHANNELS,), dtype=tl.float32)
    for start in range(0, width, COLUMNS):
        column = start + tl.arange(0, COLUMNS)
        inside = (column < width)[:, None] & known[None, :]
        part = tl.load(first + column.to(tl.int64)[:, None] * column_stride, mask=inside, other=0.0).to(tl.float32)
        count = tl.minimum(COLUMNS, width - start) * 1.0
        part_mean = tl.sum(part, axis=0) / count
        apart = tl.where(inside, part - part_mean[None, :], 0.0)
        step = part_mean - mean
        share = count / (start + count)
        mean += step * share
        deviation += tl.sum(apart * apart, axis=0) + step * step * start * share
    tl.store(means + row * channels + channel, mean, mask=known)
    tl.store(deviations + row * channels + channel, deviation, mask=known)


@triton.jit  # type: ignore[untyped-decorator]
def scale_shift(  # type: ignore[no-untyped-def]
    values,
    scale,
    shift,
    out,
    count,
    channels,
    inner,
    SILU: tl.constexpr,
    SIZE: tl.constexpr,
):
    """values * scale + shift, and SiLU of it; value i is of channel i // inner % channels."""
    index = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    here = index < count
    channel = index // inner % channels
    x = tl.load(values + index, mask=here, other=0.0)
    y = x.to(tl.float32) * tl.load(scale + channel, mask=here, other=0.0)
    y += tl.load(shift + channel, mask=here, other=0.0)
    if SILU:
        y = y / (1.0 + tl.exp(-y))
    tl.store(out + index, y.to(x.dtype), mask=here)


@triton.jit  # type: ignore[untyped-decorator]
def gated(values, out, count, channels, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    """The first half of each token's 2 * channels values times the exact GELU of the second half."""
    index = tl.program_id(0).to(tl.int64) * SIZE + tl.arange(0, SIZE)
    here = index < count
    first = index // channels * (2 * channels) + index % channels
    x = tl.load(values + first, mask=here, other=0.0)
    gate = tl.load(values + first + channels, mask=here, other=0.0).to(tl.float32)
    gate = 0.5 * gate * (1.0 + tl.erf(gate * 0.7071067811865476))
    tl.store(out + index, (x.to(tl.float32) * gate).to(x.dtype), mask=here)
