"""Enlarges a picture row by row in floating point, with Lanczos, bicubic or bilinear weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from linfusion_cli.engine.fields import Field, Sized
from linfusion_cli.geometry import Band, Size


def _lanczos(x: Tensor) -> Tensor:
    return torch.where(x.abs() < 3, torch.sinc(x) * torch.sinc(x / 3), 0.0)


def _bicubic(x: Tensor) -> Tensor:
    """Keys' kernel with a = -0.5, Pillow's choice."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, 0.0))


def _bilinear(x: Tensor) -> Tensor:
    return (1 - x.abs()).clamp(min=0)


KERNELS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {"lanczos": (3, _lanczos), "bicubic": (2, _bicubic), "bilinear": (1, _bilinear)}


@dataclass(frozen=True, slots=True)
class Taps:
    """Which source places each target place reads, and with what weights; both (targets, taps)."""

    places: Tensor
    weights: Tensor

    @staticmethod
    def between(source: int, target: int, kernel: str) -> Taps:
        """Weights for a line of `source` places made into `target`; shrinking widens the kernel against aliasing."""
        support, function = KERNELS[kernel]
        step = source / target
        stretch = max(1.0, step)
        centre = (torch.arange(target, dtype=torch.float64) + 0.5) * step - 0.5
        reach = math.ceil(support * stretch)
        offsets = torch.arange(-reach + 1, reach + 1)
        places = centre.floor().long().unsqueeze(1) + offsets
        weights = function((places - centre.unsqueeze(1)) / stretch)
        weights = torch.where((places >= 0) & (places < source), weights, 0.0)  # beyond the border there is nothing
        weights = weights / weights.sum(1, keepdim=True)
        return Taps(places.clamp(0, source - 1), weights.float())


@dataclass(frozen=True, slots=True)
class Resized(Sized):
    """A field at another size; values are kept within [low, high], where sharp kernels overshoot."""

    vertical: Taps
    horizontal: Taps
    low: float
    high: float

    @staticmethod
    def to(source: Field, size: Size, kernel: str, low: float = -1.0, high: float = 1.0) -> Resized:
        """Enlarges `source` to `size` with one of KERNELS."""
        return Resized(source, size, Taps.between(source.height, size.height, kernel), Taps.between(source.width, size.width, kernel), low, high)

    def rows(self, band: Band) -> Tensor:
        places, weights = self.vertical.places[band.rows], self.vertical.weights[band.rows]
        first = int(places.min())
        lines = self.source.rows(Band(first, int(places.max()) + 1))  # (1, channels, rows, width)
        mixed = _mix(lines.movedim(2, 0), places - first, weights).movedim(0, 2)
        wide = _mix(mixed.movedim(3, 0), self.horizontal.places, self.horizontal.weights).movedim(0, 3)
        return wide.clamp(self.low, self.high).contiguous(memory_format=torch.channels_last)


def _mix(lines: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of lines (source, ...) for each target: (targets, ...)."""
    weights = weights.to(lines.device, lines.dtype).view(*weights.shape, *[1] * (lines.ndim - 1))
    places = places.to(lines.device)
    total = lines[places[:, 0]] * weights[:, 0]
    for tap in range(1, places.shape[1]):
        total.addcmul_(lines[places[:, tap]], weights[:, tap])
    return total
