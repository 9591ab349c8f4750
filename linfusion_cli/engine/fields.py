"""Pictures of activations that are computed row by row on demand, without the whole picture.

A field answers `rows(band)` with exactly the rows that the plain layer would give, asking its source for the rows and
the halo that it needs. Statistics of a whole picture (GroupNorm) are gathered band by band before the next layer starts
(design, sections 4 and 5), so nothing is approximated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.statistics import Statistics
from linfusion_cli.geometry import Band, Size, bands


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
class Derived:
    """A field made from another, of its size and channels unless a subclass says otherwise."""

    source: Field

    @property
    def channels(self) -> int:
        return self.source.channels

    @property
    def height(self) -> int:
        return self.source.height

    @property
    def width(self) -> int:
        return self.source.width


@dataclass(frozen=True, slots=True)
class Mapped(Derived):
    """A function of each place alone, such as an activation, or a norm whose statistics are known."""

    function: Callable[[Tensor], Tensor]

    def rows(self, band: Band) -> Tensor:
        return self.function(self.source.rows(band))


@dataclass(frozen=True, slots=True)
class Added(Derived):
    """The sum of two fields of one size."""

    second: Field

    def rows(self, band: Band) -> Tensor:
        return self.source.rows(band) + self.second.rows(band)


@dataclass(frozen=True, slots=True)
class Joined(Derived):
    """The channels of two fields of one size, one after the other."""

    second: Field

    @property
    def channels(self) -> int:
        return self.source.channels + self.second.channels

    def rows(self, band: Band) -> Tensor:
        return torch.cat([self.source.rows(band), self.second.rows(band)], dim=1)


@dataclass(frozen=True, slots=True)
class Sized(Derived):
    """A field made from another, of a size of its own."""

    size: Size

    @property
    def height(self) -> int:
        return self.size.height

    @property
    def width(self) -> int:
        return self.size.width


@dataclass(frozen=True, slots=True)
class Extended(Sized):
    """A field on a larger canvas: its last column is repeated to the right, its last row downwards."""

    def rows(self, band: Band) -> Tensor:
        last = self.source.height
        inside = Band(min(band.top, last - 1), min(band.bottom, last))
        below = band.height - inside.height
        return F.pad(self.source.rows(inside), (0, self.width - self.source.width, 0, below), mode="replicate")


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
