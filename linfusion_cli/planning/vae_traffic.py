"""What the ranks of one image send to one another in the autoencoder: a formula over its layers.

It mirrors engine/streaming/banded_vae.py; a test counts the bytes of real decodes and encodes against it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from linfusion_cli.geometry import Band, Size
from linfusion_cli.planning.memory_budget import Keep
from linfusion_cli.planning.model_shapes import VaeShape
from linfusion_cli.planning.rank_share import BLOCK_ROWS
from linfusion_cli.planning.rank_traffic import SUM_BYTES, RankTraffic
from linfusion_cli.planning.row_split import RowSplit

MOMENTS = 8  # channels of an encode's result
RESIZE_ROWS = 3  # that a filter of a resize reads beyond the rows under it

Reads = Callable[[Band], Band]


@dataclass(frozen=True, slots=True, eq=False)
class _Field:
    """A layer's output. slab_split: of the ranks' stored rows, None where it does not wait; sources: what it reads."""

    size: Size
    channels: int
    number_bytes: int
    slab_split: RowSplit | None = None
    sources: tuple[tuple[_Field, Reads], ...] = ()

    def needed(self, band: Band) -> Iterator[tuple[_Field, Band]]:
        """The stored fields from which rows are computed, each with the rows that are read."""
        for source, reads in self.sources:
            rows = reads(band)
            inside = Band(max(rows.top, 0), min(rows.bottom, source.size.height))
            if source.slab_split is not None:
                yield source, inside
            else:
                yield from source.needed(inside)


def _near(band: Band) -> Band:
    return Band(band.top - 1, band.bottom + 1)


def _same(band: Band) -> Band:
    return band


def _halving(band: Band) -> Band:
    return Band(2 * band.top, 2 * band.bottom + 1)


def _doubling(band: Band) -> Band:
    return Band(band.top // 2 - 1, (band.bottom - 1) // 2 + 2)


@dataclass(slots=True)
class VaeTraffic:
    """Adds up one decode or encode over the ranks of `split`, for an image of `size` pixels.

    keep: what waits between the sweeps of each level; window: how many latents the attention sees
    """

    shape: VaeShape
    size: Size
    split: RowSplit
    number_bytes: int
    keep: tuple[Keep, ...]
    window: int
    halo: int = field(default=0, init=False)
    statistics: int = field(default=0, init=False)
    gathered: int = field(default=0, init=False)
    waits: int = field(default=0, init=False)

    def decode(self) -> RankTraffic:
        """Without the rows of pixels, which go to the writer."""
        channels, deepest = self.shape.channels, len(self.shape.channels) - 1
        x = self._middle(self._inner(deepest, channels[deepest]), deepest)
        for level in range(deepest, -1, -1):
            for _ in range(self.shape.layers + 1):
                x = self._resnet(x, channels[level], level)
            if level:
                x = self._inner(level - 1, channels[level], (x, _doubling))
        self._sweep(self._field(0, 3, (x, _near)))
        return self._total()

    def encode(self, source: Size | None = None, source_split: RowSplit | None = None) -> RankTraffic:
        """source: of the image that is enlarged, in float32, whose rows the ranks have by `source_split`; None for one
        that each has whole."""
        channels, deepest = self.shape.channels, len(self.shape.channels) - 1
        sources = []
        if source is not None:
            image = _Field(source, 3, 4, source_split)
            ratio = source.height / self.size.height
            reach = RESIZE_ROWS * max(1.0, ratio)
            resized = (image, lambda band: _resized(band, ratio, reach))
            sources = [(_Field(self.size, 3, 4, None, (resized,)), _near)]
        x = self._inner(0, channels[0], *sources)
        for level in range(deepest + 1):
            for _ in range(self.shape.layers):
                x = self._resnet(x, channels[level], level)
            if level < deepest:
                x = self._inner(level + 1, channels[level], (x, _halving))
        x = self._middle(x, deepest)
        self._sweep(self._field(deepest, MOMENTS, (x, _near)))
        latent = self._size(deepest)
        self.gathered += MOMENTS * latent.area * (self.split.ranks - 1) * self.number_bytes
        self.waits += 1
        return self._total()

    def _total(self) -> RankTraffic:
        return RankTraffic(
            halo_bytes=self.halo,
            statistics_bytes=self.statistics,
            gathered_bytes=self.gathered,
            waits=self.waits,
        )

    def _size(self, level: int) -> Size:
        return Size(self.size.width >> level, self.size.height >> level)

    def _field(self, level: int, channels: int, *sources: tuple[_Field, Reads]) -> _Field:
        return _Field(self._size(level), channels, self.number_bytes, None, sources)

    def _inner(self, level: int, channels: int, *sources: tuple[_Field, Reads]) -> _Field:
        return self._measured(self._field(level, channels, *sources), parked=self.keep[level] == "all")

    def _resnet(self, x: _Field, channels: int, level: int) -> _Field:
        hidden = self._inner(level, channels, (x, _near))
        out = self._field(level, channels, (hidden, _near), (x, _same))
        return self._measured(out, parked=self.keep[level] != "nothing")

    def _middle(self, x: _Field, level: int) -> _Field:
        channels = self.shape.channels[-1]
        x = self._resnet(x, channels, level)
        if self.shape.attention:
            x = self._measured(self._field(level, channels, (x, self._seen), (x, _same)), parked=True)
        return self._resnet(x, channels, level)

    def _seen(self, band: Band) -> Band:
        """The rows that a band's blocks of queries attend to."""
        latent = self._size(len(self.shape.channels) - 1)
        rows = max(BLOCK_ROWS, -(-self.window // latent.width))
        if rows >= latent.height:
            return Band(0, latent.height)
        blocks = band.top // BLOCK_ROWS, -(-band.bottom // BLOCK_ROWS) - 1
        first, last = (
            min(max(0, (2 * block * BLOCK_ROWS + BLOCK_ROWS - rows) // 2), latent.height - rows) for block in blocks
        )
        return Band(min(first, band.top), max(last + rows, band.bottom))

    def _measured(self, layer: _Field, *, parked: bool) -> _Field:
        """The field after a sweep that gathers its moments: mean, variance and rows of each channel go to all."""
        self._sweep(layer)
        self.statistics += self.split.ranks * (self.split.ranks - 1) * 3 * layer.channels * SUM_BYTES
        self.waits += 1
        return _Field(layer.size, layer.channels, layer.number_bytes, self.split) if parked else layer

    def _sweep(self, layer: _Field) -> None:
        """Each rank fetches what its rows read of others' rows."""
        for rank, own in enumerate(self.split.all(layer.size.height)):
            read: dict[_Field, Band] = {}
            for source, rows in layer.needed(own) if own.height else ():
                before = read.get(source, rows)
                read[source] = Band(min(before.top, rows.top), max(before.bottom, rows.bottom))
            for source, rows in read.items():
                assert source.slab_split is not None
                stored = source.slab_split.own(rank, source.size.height)
                common = max(0, min(rows.bottom, stored.bottom) - max(rows.top, stored.top))
                self.halo += (rows.height - common) * source.size.width * source.channels * source.number_bytes
        self.waits += 1


def _resized(band: Band, ratio: float, reach: float) -> Band:
    return Band(math.floor((band.top + 0.5) * ratio - reach), math.ceil((band.bottom - 0.5) * ratio + reach))
