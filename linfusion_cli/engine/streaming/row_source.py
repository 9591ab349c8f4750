"""Fields: images of activations whose rows are computed on demand, without the whole image.

A field answers `rows(band)` with exactly the rows that the plain layer would give. It asks its source for the rows and
the halo that it needs. Statistics of a whole image (GroupNorm) are gathered band by band before the next layer starts
(docs/design.md, sections 4 and 5), so nothing is approximated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.async_copies import to_device
from linfusion_cli.engine.memory.slabs import MemorySlab, Slab
from linfusion_cli.engine.streaming import fused_layers
from linfusion_cli.engine.streaming.group_norm import Moments, Statistics, affine
from linfusion_cli.geometry import Band, Size


class Field(Protocol):
    """An image of (1, channels, height, width) that can be asked for rows."""

    @property
    def channels(self) -> int: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...

    def rows(self, band: Band) -> Tensor:
        """Rows band.top to band.bottom, (1, channels, band.height, width), in channels-last layout."""
        ...

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        """The fields that `rows(band)` asks, each with the rows that it asks for."""
        ...


@dataclass(frozen=True, slots=True)
class Parked:
    """A field that waits in a slab, as (height, width, channels). device: where its rows are needed."""

    slab: Slab
    height: int
    width: int
    channels: int
    device: torch.device

    @staticmethod
    def of(image: Tensor) -> Parked:
        """From a tensor (1, channels, height, width), on its own device."""
        values = image[0].permute(1, 2, 0).contiguous()
        height, width, channels = values.shape
        return Parked(MemorySlab(values), height, width, channels, image.device)

    @staticmethod
    def empty(like: Field, dtype: torch.dtype, store: ActivationStore) -> Parked:
        """An empty field of the size of `like`, in a slab of the store. Raises OutputError if a file finds no space."""
        slab = store.slab((like.height, like.width, like.channels), dtype)
        return Parked(slab, like.height, like.width, like.channels, store.device)

    def rows(self, band: Band) -> Tensor:
        rows = self.slab.read(band).unsqueeze(0).permute(0, 3, 1, 2)  # in this order the strides say channels-last
        return to_device(rows, self.device)

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ()

    def write(self, band: Band, rows: Tensor) -> None:
        """Stores rows (1, channels, band.height, width)."""
        self.slab.write(band, rows[0].permute(1, 2, 0))


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

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ((self.source, band),)


@dataclass(frozen=True, slots=True)
class Mapped(Derived):
    """A function of each place alone: an activation function, or a norm whose statistics are known."""

    function: Callable[[Tensor], Tensor]

    def rows(self, band: Band) -> Tensor:
        return self.function(self.source.rows(band))


@dataclass(frozen=True, slots=True)
class Added(Derived):
    """The sum of two fields of one size."""

    second: Field

    def rows(self, band: Band) -> Tensor:
        return self.source.rows(band) + self.second.rows(band)

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return (self.source, band), (self.second, band)


@dataclass(frozen=True, slots=True)
class Joined(Derived):
    """The channels of two fields of one size, one after the other."""

    second: Field

    @property
    def channels(self) -> int:
        return self.source.channels + self.second.channels

    def rows(self, band: Band) -> Tensor:
        return torch.cat([self.source.rows(band), self.second.rows(band)], dim=1)

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return (self.source, band), (self.second, band)


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
    """A field on a larger canvas: beyond the field, its outermost columns and rows are repeated.

    margin: how many columns are to the left of the field, and how many rows above it
    """

    margin: int = 0

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ((self.source, self._inside(band)),)

    def _inside(self, band: Band) -> Band:
        """The rows of the field that a band of the canvas shows; at least the one that is repeated."""
        last = self.source.height - 1
        top, bottom = (min(max(row - self.margin, 0), last) for row in (band.top, band.bottom - 1))
        return Band(top, bottom + 1)

    def rows(self, band: Band) -> Tensor:
        inside = self._inside(band)
        above = min(max(self.margin - band.top, 0), band.height - inside.height)
        below = band.height - inside.height - above
        right = self.width - self.margin - self.source.width
        return F.pad(self.source.rows(inside), (self.margin, right, above, below), mode="replicate")


@dataclass(frozen=True, slots=True)
class Cropped(Derived):
    """Rows of a field: `count` of them from `top` on."""

    top: int
    count: int

    @property
    def height(self) -> int:
        return self.count

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ((self.source, Band(band.top + self.top, band.bottom + self.top)),)

    def rows(self, band: Band) -> Tensor:
        return self.source.rows(Band(band.top + self.top, band.bottom + self.top))


@dataclass(frozen=True, slots=True)
class Spread:
    """The same values (1, channels, 1, 1) at every place of an image."""

    values: Tensor
    size: Size

    @property
    def channels(self) -> int:
        return self.values.shape[1]

    @property
    def height(self) -> int:
        return self.size.height

    @property
    def width(self) -> int:
        return self.size.width

    def rows(self, band: Band) -> Tensor:
        return self.values.expand(-1, -1, band.height, self.width)

    def reads(self, band: Band) -> tuple[tuple[Field, Band], ...]:
        return ()


@dataclass(slots=True)
class _Lines:
    """The rows that were computed last, from row `top` on."""

    top: int = 0
    rows: Tensor | None = None


@dataclass(frozen=True, slots=True)
class LineBuffer(Derived):
    """A field that computes each row once per sweep although requests overlap: it keeps the rows of the last request.

    Requests go from the top down; one that begins above the request before it starts a new sweep.
    """

    _lines: _Lines = field(default_factory=_Lines)

    def rows(self, band: Band) -> Tensor:
        held, top = self._lines.rows, self._lines.top
        bottom = 0 if held is None else top + held.shape[2]
        if held is None or band.top < top or band.top >= bottom:
            held = self.source.rows(band)
        else:
            held = held[:, :, band.top - top :]
            if band.bottom > bottom:
                held = torch.cat([held, self.source.rows(Band(bottom, band.bottom))], dim=2)
        self._lines.rows, self._lines.top = held, band.top
        return held[:, :, : band.height]


@dataclass(frozen=True, slots=True)
class Held:
    """A field and the moments of its channels, which a norm needs. fused: a norm of it is one kernel."""

    field: Field
    moments: Moments
    fused: bool = False


def normalised(x: Held, norm: nn.GroupNorm, *, silu: bool) -> Mapped:
    """GroupNorm with known statistics, and SiLU after it if `silu`."""
    scale, shift = x.moments.group_norm(norm)

    def function(rows: Tensor) -> Tensor:
        if x.fused:
            return fused_layers.affine(rows, scale, shift, silu=silu)
        y = affine(rows, scale, shift)
        return F.silu(y, inplace=True) if silu else y

    return Mapped(x.field, function)


def sweep(
    source: Field, band_height: int, store: ActivationStore, use: Callable[[Band, Tensor], None] = lambda _, __: None
) -> Iterator[tuple[Band, Tensor]]:
    """Yields the field band by band from the top: each band, and its rows (1, channels, band.height, width).

    Where the store has peers, these are this process's own rows.

    use: gets every band first; it must change nothing if it fails
    Where memory runs out, the band is computed again half as high, and so are all that follow. Raises torch's error if
    a single row is too much.
    """
    own = store.peers.start_sweep(source)
    top = own.top

    def computed(band: Band) -> Tensor:
        rows = source.rows(band)
        use(band, rows)
        return rows

    store.start_sweep()
    while top < own.bottom:
        band = Band(top, min(top + store.oom.band_height(band_height), own.bottom))
        rows = store.oom.attempt(partial(computed, band), last=band.height == 1)
        if rows is None:
            store.oom.halve_bands()
            continue
        store.finish_band(Band(top - own.top, band.bottom - own.top), band_height, own.height)
        yield band, rows
        top = band.bottom


def park(
    source: Field, band_height: int, store: ActivationStore, into: Parked | None, on_rows: Callable[[int], None]
) -> Held:
    """Computes a field in one sweep, stores it and gathers its moments.

    into:    a field to overwrite. `source` may read it with a halo of up to band_height rows: writing stays that far
             behind reading. None takes a new slab.
    on_rows: gets the height of each band
    """
    statistics = Statistics(store.peers.own(source.height).height, store.fused)
    behind: deque[tuple[Band, Tensor]] = deque()
    for band, rows in sweep(source, band_height, store, lambda _, rows: statistics.add(rows)):
        into = into or Parked.empty(source, rows.dtype, store)
        behind.append((band, rows))
        while behind[0][0].bottom + band_height <= band.bottom:
            into.write(*behind.popleft())
        on_rows(band.height)
    while behind:
        assert into is not None
        into.write(*behind.popleft())
    # a process without rows of its own stores none
    into = into or Parked.empty(source, torch.get_default_dtype(), store)
    return Held(into, _moments(statistics, source.channels, store), store.fused)


def measure(source: Field, band_height: int, store: ActivationStore, on_rows: Callable[[int], None]) -> Held:
    """Gathers a field's moments in one sweep and stores nothing: later sweeps compute each row once more."""
    statistics = Statistics(store.peers.own(source.height).height, store.fused)
    for band, _ in sweep(source, band_height, store, lambda _, rows: statistics.add(rows)):
        on_rows(band.height)
    return Held(LineBuffer(source), _moments(statistics, source.channels, store), store.fused)


def _moments(statistics: Statistics, channels: int, store: ActivationStore) -> Moments:
    """The moments of the whole image, of which this process has swept its own rows."""
    own = statistics.moments() if statistics.height else Moments.of_no_rows(channels, store.device)
    return Moments(*store.peers.merged(own.mean, own.variance, statistics.height))


def collect(source: Field, band_height: int, store: ActivationStore, dtype: torch.dtype) -> Tensor:
    """The whole field, (1, channels, height, width), of all processes' rows. dtype: of its rows."""
    none = torch.empty(1, source.channels, 0, source.width, dtype=dtype, device=store.device)
    parts = [rows for _, rows in sweep(source, band_height, store)]
    return store.peers.gathered(torch.cat(parts, dim=2) if parts else none, source.height)


def tokens_of(rows: Tensor) -> Tensor:
    """(1, channels, height, width) to (1, tokens, channels)."""
    return rows.permute(0, 2, 3, 1).flatten(1, 2)
