"""Pictures of activations that are computed row by row on demand: convolutions, norms and sums without the whole picture.

A field answers `rows(band)` with exactly the rows that the plain layer would give, asking its source for the rows and
the halo that it needs. Statistics of a whole picture (GroupNorm) are gathered band by band before the next layer starts
(design, sections 4 and 5), so nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.geometry import Band, bands


class Field(Protocol):
    """A picture of (1, channels, height, width) that can be asked for rows."""

    @property
    def channels(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...

    def rows(self, band: Band) -> Tensor:
        """Rows band.top to band.bottom, (1, channels, band.height, width), in channels-last layout."""
        ...


@dataclass(frozen=True, slots=True)
class Parked:
    """A field that is held in memory, as (height, width, channels) so that rows are one piece; `device` is where rows are needed."""

    values: Tensor
    device: torch.device

    @staticmethod
    def of(picture: Tensor) -> Parked:
        """From a tensor (1, channels, height, width)."""
        return Parked(picture[0].permute(1, 2, 0).contiguous(), picture.device)

    @staticmethod
    def empty(like: Field, dtype: torch.dtype, device: torch.device) -> Parked:
        """Room for a field."""
        return Parked(torch.empty(like.height, like.width, like.channels, dtype=dtype, device=device), device)

    @property
    def channels(self) -> int:
        return self.values.shape[2]

    @property
    def height(self) -> int:
        return self.values.shape[0]

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def rows(self, band: Band) -> Tensor:
        rows = self.values[band.rows].unsqueeze(0).permute(0, 3, 1, 2)  # in this order the strides say channels-last
        return rows.to(self.device, non_blocking=True)

    def write(self, band: Band, rows: Tensor) -> None:
        """Stores rows (1, channels, band.height, width)."""
        self.values[band.rows] = rows[0].permute(1, 2, 0)


@dataclass(frozen=True, slots=True)
class Convolved:
    """A convolution with zeros around the picture; `padding` is (top, bottom, left, right)."""

    source: Field
    conv: nn.Conv2d
    padding: tuple[int, int, int, int]

    @staticmethod
    def same(source: Field, conv: nn.Conv2d) -> Convolved:
        """With the module's own symmetric padding."""
        vertical, horizontal = (int(p) for p in conv.padding)
        return Convolved(source, conv, (vertical, vertical, horizontal, horizontal))

    @property
    def channels(self) -> int:
        return self.conv.out_channels

    @property
    def height(self) -> int:
        return (self.source.height + self.padding[0] + self.padding[1] - self.conv.kernel_size[0]) // self.conv.stride[0] + 1

    @property
    def width(self) -> int:
        return (self.source.width + self.padding[2] + self.padding[3] - self.conv.kernel_size[1]) // self.conv.stride[1] + 1

    def rows(self, band: Band) -> Tensor:
        top = band.top * self.conv.stride[0] - self.padding[0]
        bottom = (band.bottom - 1) * self.conv.stride[0] - self.padding[0] + self.conv.kernel_size[0]
        inside = Band(max(top, 0), min(bottom, self.source.height))
        x = self.source.rows(inside)
        left, right = self.padding[2], self.padding[3]
        beyond = (inside.top - top, bottom - inside.bottom)
        if any(beyond) or left != right:
            x, left = F.pad(x, (left, right, *beyond)), 0
        return F.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride, (0, left))


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution module called as it is (an adapter inside it works), on rows with a margin that is cut off again.

    The module pads its input with zeros: right at the picture's edges, and elsewhere within the margin. `dilation` is
    what the pass multiplies the module's dilation and padding by.
    """

    source: Field
    conv: Any  # behaves like nn.Conv2d with an odd square kernel and padding to keep (or, strided, halve) the size
    dilation: int

    @property
    def channels(self) -> int:
        return int(self.conv.out_channels)

    @property
    def height(self) -> int:
        return -(-self.source.height // self._stride)

    @property
    def width(self) -> int:
        return -(-self.source.width // self._stride)

    @property
    def _stride(self) -> int:
        return int(self.conv.stride[0])

    def rows(self, band: Band) -> Tensor:
        stride, halo = self._stride, self.conv.kernel_size[0] // 2 * self.dilation
        margin = -(-halo // stride) * stride
        inside = Band(max(0, band.top * stride - margin), min(self.source.height, band.bottom * stride + margin))
        rows: Tensor = self.conv(self.source.rows(inside))
        top = band.top - inside.top // stride
        return rows[:, :, top : top + band.height]


@dataclass(frozen=True, slots=True)
class Doubled:
    """Every row and column twice, the last ones once where the size is odd."""

    source: Field
    height: int
    width: int

    @property
    def channels(self) -> int:
        return self.source.channels

    def rows(self, band: Band) -> Tensor:
        above = Band(band.top // 2, (band.bottom + 1) // 2)
        doubled = F.interpolate(self.source.rows(above), scale_factor=2.0, mode="nearest")
        return doubled[:, :, band.top - 2 * above.top : band.bottom - 2 * above.top, : self.width]


@dataclass(frozen=True, slots=True)
class Joined:
    """The channels of two fields of one size, one after the other."""

    first: Field
    second: Field

    @property
    def channels(self) -> int:
        return self.first.channels + self.second.channels

    @property
    def height(self) -> int:
        return self.first.height

    @property
    def width(self) -> int:
        return self.first.width

    def rows(self, band: Band) -> Tensor:
        return torch.cat([self.first.rows(band), self.second.rows(band)], dim=1)


@dataclass(frozen=True, slots=True)
class UpsampledConvolved:
    """A 3x3 convolution of the source with every row and column doubled, without making the doubled picture.

    A doubled place is read by a 3x3 kernel as at most 2x2 different source places, so each of the four phases (even or
    odd row, even or odd column) is a 2x2 convolution whose weights are sums: 16 multiplications instead of 36.
    """

    source: Field
    kernels: tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]  # by row phase, column phase
    bias: Tensor | None

    @staticmethod
    def of(source: Field, conv: nn.Conv2d) -> UpsampledConvolved:
        """For the convolution of a diffusers Upsample2D (3x3, stride 1, padding 1)."""
        by_row = [_halved(conv.weight.double(), 2, phase) for phase in (0, 1)]
        pairs = [[_halved(rows, 3, phase).to(conv.weight.dtype) for phase in (0, 1)] for rows in by_row]
        return UpsampledConvolved(source, ((pairs[0][0], pairs[0][1]), (pairs[1][0], pairs[1][1])), conv.bias)

    @property
    def channels(self) -> int:
        return self.kernels[0][0].shape[0]

    @property
    def height(self) -> int:
        return 2 * self.source.height

    @property
    def width(self) -> int:
        return 2 * self.source.width

    def rows(self, band: Band) -> Tensor:
        first, last = band.top // 2, (band.bottom - 1) // 2
        inside = Band(max(first - 1, 0), min(last + 2, self.source.height))
        x = F.pad(self.source.rows(inside), (1, 1, inside.top - first + 1, last + 2 - inside.bottom))
        height, width = last - first + 1, self.source.width
        doubled = x.new_empty((1, 2 * height, 2 * width, self.channels)).permute(0, 3, 1, 2)
        for row in (0, 1):
            for column in (0, 1):
                window = x[:, :, row : row + height + 1, column : column + width + 1]
                doubled[:, :, row::2, column::2] = F.conv2d(window, self.kernels[row][column], self.bias)
        return doubled[:, :, band.top - 2 * first : band.bottom - 2 * first]


def _halved(weight: Tensor, axis: int, phase: int) -> Tensor:
    """Three taps over doubled places as two taps over source places; an even place shares its last two, an odd its first."""
    first, middle, last = weight.unbind(axis)
    return torch.stack((first, middle + last) if phase == 0 else (first + middle, last), axis)


@dataclass(frozen=True, slots=True)
class Mapped:
    """A function of each place alone, such as an activation, or a norm whose statistics are known."""

    source: Field
    function: Callable[[Tensor], Tensor]

    @property
    def channels(self) -> int:
        return self.source.channels

    @property
    def height(self) -> int:
        return self.source.height

    @property
    def width(self) -> int:
        return self.source.width

    def rows(self, band: Band) -> Tensor:
        return self.function(self.source.rows(band))


@dataclass(frozen=True, slots=True)
class Added:
    """The sum of two fields of one size."""

    first: Field
    second: Field

    @property
    def channels(self) -> int:
        return self.first.channels

    @property
    def height(self) -> int:
        return self.first.height

    @property
    def width(self) -> int:
        return self.first.width

    def rows(self, band: Band) -> Tensor:
        return self.first.rows(band) + self.second.rows(band)


@dataclass(slots=True)
class Statistics:
    """Count, mean and sum of squared deviations per channel, in float64; merged by Chan, Golub and LeVeque's formula."""

    count: int
    mean: Tensor  # (channels)
    deviation: Tensor  # (channels), often called M2

    @staticmethod
    def empty(channels: int, device: torch.device) -> Statistics:
        zeros = torch.zeros(channels, dtype=torch.float64, device=device)
        return Statistics(0, zeros, zeros.clone())

    def add(self, rows: Tensor) -> None:
        """Adds rows (1, channels, height, width)."""
        flat = rows[0].permute(1, 2, 0).flatten(0, 1)  # (places, channels), a view
        flat = flat.to(torch.promote_types(torch.float32, flat.dtype))
        mean = flat.mean(0)
        deviation = (flat - mean).square_().sum(0)  # two passes: five times as fast as torch.var_mean on two cores
        self.merge(Statistics(len(flat), mean.double(), deviation.double()))

    def merge(self, other: Statistics) -> None:
        total = self.count + other.count
        delta = other.mean - self.mean
        self.deviation += other.deviation + delta**2 * (self.count * other.count / total)
        self.mean += delta * (other.count / total)
        self.count = total

    def joined(self, other: Statistics) -> Statistics:
        """The statistics of the channels of both, one after the other."""
        return Statistics(self.count, torch.cat([self.mean, other.mean]), torch.cat([self.deviation, other.deviation]))

    def group_norm(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """The scale and shift per channel, (channels), that make GroupNorm a multiplication and an addition."""
        mean = self.mean.view(norm.num_groups, -1)
        group_mean = mean.mean(1, keepdim=True)
        within = self.deviation.view_as(mean) / self.count
        variance = (within + (mean - group_mean) ** 2).mean(1, keepdim=True)
        scale = (variance + norm.eps).rsqrt().expand_as(mean).flatten()
        if norm.weight is not None:
            scale = scale * norm.weight.double()
        shift = -group_mean.expand_as(mean).flatten() * scale
        return scale, shift if norm.bias is None else shift + norm.bias.double()


def normalised(source: Field, norm: nn.GroupNorm, statistics: Statistics, *, silu: bool) -> Mapped:
    """GroupNorm with known statistics, then SiLU if asked for."""
    scale, shift = statistics.group_norm(norm)

    def function(x: Tensor) -> Tensor:
        y = torch.addcmul(shift.to(x.dtype).view(1, -1, 1, 1), x, scale.to(x.dtype).view(1, -1, 1, 1))
        return F.silu(y, inplace=True) if silu else y

    return Mapped(source, function)


def sweep(source: Field, band_height: int) -> Iterator[tuple[Band, Tensor]]:
    """The field band by band, from the top."""
    for band in bands(source.height, band_height):
        yield band, source.rows(band)


def park(source: Field, band_height: int, device: torch.device, into: Parked | None, on_rows: Callable[[int], None]) -> tuple[Parked, Statistics]:
    """Computes a field once, stores it and gathers its statistics; `on_rows` is told the height of each band.

    `into` is overwritten in place. It may be a field that `source` reads with a halo of up to one band: writing stays
    one band behind reading.
    """
    statistics = Statistics.empty(source.channels, device)
    behind: tuple[Band, Tensor] | None = None
    for band, rows in sweep(source, band_height):
        statistics.add(rows)
        into = into or Parked.empty(source, rows.dtype, device)
        if behind is not None:
            into.write(*behind)
        behind = (band, rows)
        on_rows(band.height)
    assert into is not None
    assert behind is not None
    into.write(*behind)
    return into, statistics
