"""Hashed value noise: the same number at the same place for every image size."""

from __future__ import annotations

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def mix(value: Tensor) -> Tensor:
    """Scrambles int64 values below 2^32 into int64 values below 2^32 (the lowbias32 finaliser)."""
    value = value & _MASK
    value = ((value ^ (value >> 16)) * 0x7FEB352D) & _MASK
    value = ((value ^ (value >> 15)) * 0x846CA68B) & _MASK
    return value ^ (value >> 16)


def uniform(seed: Tensor, key: Tensor | int) -> Tensor:
    """Uniform numbers in [0, 1), shape of `seed` broadcast with `key`."""
    return mix(mix(seed) + mix(torch.as_tensor(key, dtype=torch.int64) + 0x9E3779B9)).to(torch.float32) / 2.0**32


def value_noise(x: Tensor, seed: Tensor, *, smooth: bool = True) -> Tensor:
    """Value noise of unit lattice in [0, 1]; `seed` broadcasts against `x`."""
    cell = torch.floor(x)
    weight = x - cell
    if smooth:
        weight = weight * weight * (3 - 2 * weight)
    left = cell.to(torch.int64)
    return torch.lerp(uniform(seed, left), uniform(seed, left + 1), weight)


def fractal(x: Tensor, seed: Tensor, frequency: float, gain: float, octaves: int, pixel: Tensor) -> Tensor:
    """Octaves of value noise over x (batch, 1, 1, width), with mean 0.5.

    Each octave fades out before its wavelength falls below two pixels. `pixel` is the size of a pixel in the units of
    `x`: the closer the view, the more octaves show.
    """
    finest = float(pixel.min())
    count = sum(1.0 / (frequency * 2**octave) > 2 * finest for octave in range(octaves))
    if count == 0:
        return torch.full_like(x, 0.5)
    octave = torch.arange(count, device=x.device).view(1, -1, 1, 1)  # all octaves at once, in the place of the channels
    wavelength = 1.0 / (frequency * 2.0**octave)
    position = x / wavelength + 17.31 * octave
    cell = torch.floor(position)
    weight = position - cell
    weight = torch.where(octave < 3, weight * weight * (3 - 2 * weight), weight)
    left = cell.to(torch.int64)
    ends = uniform((seed + 101 * octave).unsqueeze(0), torch.stack([left, left + 1]))
    share = gain ** octave.float() / sum(gain**step for step in range(3)) * ((wavelength / pixel) / 2 - 1).clamp(0, 1)
    waves: Tensor = (share * (torch.lerp(ends[0], ends[1], weight) - 0.5)).sum(1, keepdim=True)
    return 0.5 + waves
