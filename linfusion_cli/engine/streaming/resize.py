"""Enlarges an image row by row in floating point, with Lanczos, bicubic or bilinear weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from linfusion_cli.engine.streaming.row_source import Field, Sized
from linfusion_cli.geometry import Band, Size, bands


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


LINES = 64  # of the source at a time, where the image shrinks
COLUMNS = 128  # of the target in one product: fewer cost more calls, more multiply by more zeros
KERNELS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "lanczos": (3, _lanczos),
    "bicubic": (2, _bicubic),
    "bilinear": (1, _bilinear),
}


@dataclass(frozen=True, slots=True)
class Taps:
    """The source positions that each target position reads, and their weights; both (targets, taps)."""

    positions: Tensor
    weights: Tensor

    @staticmethod
    def between(source: int, target: int, kernel: str) -> Taps:
        """Weights that resample a line of `source` values to `target`; shrinking widens the kernel against aliasing."""
        support, function = KERNELS[kernel]
        step = source / target
        stretch = max(1.0, step)
        centre = (torch.arange(target, dtype=torch.float64) + 0.5) * step - 0.5
        reach = math.ceil(support * stretch)
        offsets = torch.arange(-reach + 1, reach + 1)
        positions = centre.floor().long().unsqueeze(1) + offsets
        weights = function((positions - centre.unsqueeze(1)) / stretch)
        weights = torch.where((positions >= 0) & (positions < source), weights, 0.0)  # none beyond the border
        weights = weights / weights.sum(1, keepdim=True)
        return Taps(positions.clamp(0, source - 1), weights.float())

    def matrix(self, targets: slice) -> tuple[Band, Tensor]:
        """The source positions that these targets read, and the matrix (targets, sources) of their weights."""
        positions, weights = self.positions[targets], self.weights[targets]
        read = Band(int(positions.min()), int(positions.max()) + 1)
        return read, torch.zeros(len(positions), read.height).scatter_add_(1, positions - read.top, weights)


@dataclass(frozen=True, slots=True)
class Resized(Sized):
    """A field at another size. Sharp kernels overshoot: values are clamped to [low, high].

    Products with small matrices, mostly zeros, are several times as fast as gathering each tap.
    horizontal: for every COLUMNS columns of the target, the source columns that they read, and their matrix
    """

    vertical: Taps
    horizontal: tuple[tuple[Band, Tensor], ...]
    low: float
    high: float

    @staticmethod
    def to(source: Field, size: Size, kernel: str, low: float = -1.0, high: float = 1.0) -> Resized:
        """Resamples `source` to `size` with one of KERNELS."""
        horizontal = Taps.between(source.width, size.width, kernel)
        blocks = tuple(horizontal.matrix(slice(left, left + COLUMNS)) for left in range(0, size.width, COLUMNS))
        return Resized(source, size, Taps.between(source.height, size.height, kernel), blocks, low, high)

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ((self.source, self.vertical.matrix(band.rows)[0]),)

    def rows(self, band: Band) -> Tensor:
        read, matrix = self.vertical.matrix(band.rows)
        if self.source.width > self.width:  # a photo that shrinks: never whole in floating point
            parts = (Band(read.top + part.top, read.top + part.bottom) for part in bands(read.height, LINES))
            made = _down(matrix, torch.cat([self._across(self.source.rows(part)) for part in parts], dim=2))
        else:
            made = self._across(_down(matrix, self.source.rows(read)))
        return made.clamp(self.low, self.high).contiguous(memory_format=torch.channels_last)

    def _across(self, lines: Tensor) -> Tensor:
        """Lines (1, channels, rows, source width) resampled to the target's width."""
        return torch.cat(
            [lines[..., columns.rows] @ weights.to(lines).T for columns, weights in self.horizontal], dim=3
        )


def _down(matrix: Tensor, lines: Tensor) -> Tensor:
    """Rows of the target from lines (1, channels, lines, width) of the source."""
    return torch.einsum("tr,ncrw->nctw", matrix.to(lines), lines)
