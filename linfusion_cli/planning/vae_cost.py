"""The autoencoder's sweeps in numbers: mirrors engine/streaming/banded_vae.py step by step."""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import CostCounter, Keep, PlannedSlab
from linfusion_cli.planning.model_shapes import VaeShape

SCORES = 1 << 24  # products of a query and a key that are alive at once, as in engine/streaming/vae_attention.py
HALO_ROWS = 8  # read beside a band, where a chain of layers is computed again from a slab
BAND_UNITS = (
    7  # activations of a band's size that are alive in a layer: input with halo, normalised, output, stored late
)


@dataclass(frozen=True, slots=True)
class _Node:
    """A field, as RowSource is in the engine.

    roots: the slabs that its rows are computed from, or its own slab if it is parked
    macs, values: what computing it again costs; 0 if it is parked
    """

    channels: int
    roots: tuple[PlannedSlab, ...]
    parked: bool = False
    macs: float = 0.0
    values: float = 0.0


@dataclass(frozen=True, slots=True)
class VaeCost:
    """Counts one decode or encode.

    size:    of the image in pixels
    band_px: a band's height in rows of each level
    keep:    what waits between the sweeps of each level, full resolution first
    window:  how many latents the attention in the middle sees
    """

    shape: VaeShape
    size: Size
    band_px: int
    keep: tuple[Keep, ...]
    window: int
    counter: CostCounter

    def decode(self) -> CostCounter:
        """All of a decode."""
        channels, deepest = self.shape.channels, len(self.shape.channels) - 1
        x = self._middle(self._inner(9 * 4 * channels[deepest], channels[deepest], deepest, _Node(4, ())))
        for level in range(deepest, -1, -1):
            for _ in range(self.shape.layers + 1):
                x = self._resnet(x, channels[level], level)
            if level:
                x = self._replaced(x, self._inner(4 * channels[level] ** 2, channels[level], level - 1, x))
        self._sweep(9 * 3 * channels[0], channels[0], 0, x)
        return self.counter

    def encode(self) -> CostCounter:
        """All of an encode."""
        channels, deepest = self.shape.channels, len(self.shape.channels) - 1
        x = self._inner(9 * 3 * channels[0], channels[0], 0, _Node(3, ()))
        for level in range(deepest + 1):
            for _ in range(self.shape.layers):
                x = self._resnet(x, channels[level], level)
            if level < deepest:
                x = self._replaced(x, self._inner(9 * channels[level] ** 2, channels[level], level + 1, x))
        x = self._middle(x)
        self._sweep(9 * 8 * channels[deepest], channels[deepest], deepest, x)
        return self.counter

    def _sweep(self, macs: float, channels: int, level: int, *sources: _Node) -> _Node:
        """A sweep that computes a field from others, `macs` multiply-adds per position; the field, not parked."""
        positions = self._positions(level)
        roots = tuple(dict.fromkeys(root for source in sources for root in source.roots))
        total = macs * positions + sum(source.macs for source in sources)
        values = channels * positions + sum(source.values for source in sources)
        self.counter.count_sweep(total, values, -(-(self.size.height >> level) // self.band_px))
        self.counter.count_copies(*roots)
        self.counter.count_buffers(self._share(level), *roots)
        self.counter.count_band(BAND_UNITS * channels * (self.size.width >> level) * self.band_px)
        return _Node(channels, roots, macs=total, values=values)

    def _positions(self, level: int) -> float:
        """How many positions (rows times columns) an activation of a level has."""
        return self.size.area / (1 << 2 * level)

    def _share(self, level: int) -> float:
        """The part of a level's rows that a band reads."""
        return min(1.0, (self.band_px + HALO_ROWS) / (self.size.height >> level))

    def _parked(self, node: _Node, level: int, into: PlannedSlab | None = None) -> _Node:
        """The field after it is stored, in a new slab or in place of another."""
        slab = into or self.counter.allocate(node.channels * self._positions(level))
        self.counter.count_copies(slab)
        self.counter.count_buffers(self._share(level), slab, *node.roots)
        return _Node(node.channels, (slab,), parked=True)

    def _inner(self, macs: float, channels: int, level: int, x: _Node) -> _Node:
        """The input of a ResNet block that comes from another layer, or the field inside the block."""
        node = self._sweep(macs, channels, level, x)
        return self._parked(node, level) if self.keep[level] == "all" else node

    def _resnet(self, x: _Node, channels: int, level: int) -> _Node:
        hidden = self._inner(9 * x.channels * channels, channels, level, x)
        shortcut = x.channels * channels if x.channels != channels else 0
        skip = x if hidden.parked else _Node(x.channels, x.roots)  # what is read twice in one sweep is computed once
        node = self._sweep(9 * channels**2 + shortcut, channels, level, hidden, skip)
        if self.keep[level] != "nothing":
            into = next((field.roots[0] for field in (hidden, x) if field.parked and field.channels == channels), None)
            node = self._parked(node, level, into)
        return self._replaced(x, self._replaced(hidden, node, x))

    def _replaced(self, x: _Node, following: _Node, *others: _Node) -> _Node:
        """Frees the slabs of x, except those that `following` or others are computed from; returns `following`."""
        needed = {root for node in (following, *others) for root in node.roots}
        self.counter.free(*(root for root in x.roots if root not in needed))
        return following

    def _middle(self, x: _Node) -> _Node:
        channels, deepest = self.shape.channels[-1], len(self.shape.channels) - 1
        x = self._resnet(x, channels, deepest)
        if self.shape.attention:
            x = self._attention(x, channels, deepest)
        return self._resnet(x, channels, deepest)

    def _attention(self, x: _Node, channels: int, level: int) -> _Node:
        seen = min(self._positions(level), self.window)
        attended = self._parked(self._sweep(4 * channels**2 + 2 * channels * seen, channels, level, x), level)
        self.counter.count_band(3 * SCORES + 6 * channels * self.band_px * (self.size.width >> level))
        return self._replaced(x, attended)


def vae_cost(
    shape: VaeShape,
    size: Size,
    band_px: int,
    keep: tuple[Keep, ...],
    window: int,
    counter: CostCounter,
    *,
    encode: bool,
) -> CostCounter:
    """One decode or encode, entered into the counter."""
    cost = VaeCost(shape, size, band_px, keep, window, counter)
    return cost.encode() if encode else cost.decode()
