"""A pass of the UNet in numbers: mirrors engine/bands.py step by step, or estimates the whole image at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import CostCounter, PlannedSlab, StoreBudget
from linfusion_cli.planning.model_shapes import UNetShape

TEXT_TOKENS = 77
BATCHED_LATENTS = 128 * 128  # up to this many latents both halves of the guidance run as one batch
LATENT_CHANNELS = 4


@dataclass(slots=True)
class UNetCost:
    """Counts one pass for one sample of `latent` latents. band_rows: of every level."""

    shape: UNetShape
    latent: Size
    band_rows: int
    dilation: int
    linear: bool
    counter: CostCounter

    def run(self, controlnets: int = 0) -> CostCounter:
        """All of a pass, with so many ControlNets: their images wait all along, what they add until the pass is over."""
        channels, last = self.shape.channels, len(self.shape.channels) - 1
        conditions = [self.counter.allocate(channels[0] * self._places(0)) for _ in range(controlnets)]
        added = [self._control(condition) for condition in conditions]
        *skips, (_, x) = self._down()
        if controlnets:
            places = [*zip(skips, self._levels(), strict=True), ((channels[last], x), last)]
            *skips, (_, x) = [
                self._with(stored, level, [control[i] for control in added]) for i, (stored, level) in enumerate(places)
            ]
        previous = channels[last]
        for level in range(last, -1, -1):
            for _ in range(self.shape.layers + 1):
                width, skip = skips.pop()
                x = self._resnet(x, previous + width, channels[level], level, release=(x, skip), read=(x, skip))
                x = self._transformer(x, level, self.shape.depths[level])
                previous = channels[level]
            if level:
                x = self._park(9 * previous**2, previous, level - 1, x)
        self._sweep(9 * LATENT_CHANNELS * channels[0], channels[0], 0, x)
        self.counter.free(x, *conditions, *chain(*added))
        return self.counter

    def _control(self, condition: PlannedSlab) -> list[PlannedSlab]:
        """A ControlNet is a UNet's way down; each of its fields goes through one more 1x1 convolution when it is added."""
        self.counter.count_copies(condition)
        self.counter.count_buffers(self._share(0), condition)
        return [slab for _, slab in self._down()]

    def _with(self, stored: tuple[int, PlannedSlab], level: int, added: list[PlannedSlab]) -> tuple[int, PlannedSlab]:
        """What a skip becomes with what ControlNets add to it, in its place."""
        channels, slab = stored
        self._sweep(len(added) * channels**2, channels, level, slab, slab, *added)
        return stored

    def _levels(self) -> Iterator[int]:
        """The level of each skip, from the first convolution's on."""
        yield 0
        last = len(self.shape.channels) - 1
        for level in range(last + 1):
            yield from (level,) * self.shape.layers
            if level < last:
                yield level + 1

    def _down(self) -> list[tuple[int, PlannedSlab]]:
        """Channels and room of every skip, and of the middle block's output last."""
        channels, last = self.shape.channels, len(self.shape.channels) - 1
        x = self._park(9 * LATENT_CHANNELS * channels[0], channels[0], 0)
        skips, previous = [(channels[0], x)], channels[0]
        for level in range(last + 1):
            for _ in range(self.shape.layers):
                x = self._resnet(x, previous, channels[level], level, release=())
                x = self._transformer(x, level, self.shape.depths[level])
                skips.append((channels[level], x))
                previous = channels[level]
            if level < last:
                x = self._park(9 * previous**2, previous, level + 1)
                skips.append((previous, x))
        x = self._resnet(x, previous, previous, last, release=())
        x = self._transformer(x, last, self.shape.middle_depth)
        x = self._resnet(x, previous, previous, last, release=(x,))
        return [*skips, (previous, x)]

    def _places(self, level: int) -> int:
        side = 1 << level
        return -(-self.latent.width // side) * -(-self.latent.height // side)

    def _band_places(self, level: int) -> int:
        width, height = (-(-side // (1 << level)) for side in (self.latent.width, self.latent.height))
        return width * min(height, self.band_rows + 2 * self.dilation)

    def _share(self, level: int) -> float:
        return self._band_places(level) / self._places(level)

    def _sweep(self, macs: float, channels: float, level: int, *read: PlannedSlab) -> None:
        height = -(-self.latent.height // (1 << level))
        again = (
            1 + 2 * self.dilation / min(self.band_rows, height) if self.band_rows < height else 1
        )  # the halo's rows are computed twice
        self.counter.count_sweep(
            macs * again * self._places(level), channels * self._places(level), -(-height // self.band_rows)
        )
        self.counter.count_copies(*read)
        self.counter.count_buffers(self._share(level), *read)

    def _park(self, macs: float, channels: int, level: int, x: PlannedSlab | None = None) -> PlannedSlab:
        """A field computed into room of its own; what it is made from is needed no more."""
        slab = self.counter.allocate(channels * self._places(level))
        self._sweep(macs, channels, level, slab, *([x] if x else []))
        self.counter.count_band(4 * channels * self._band_places(level))
        if x:
            self.counter.free(x)
        return slab

    def _resnet(
        self,
        x: PlannedSlab,
        entering: int,
        channels: int,
        level: int,
        *,
        release: tuple[PlannedSlab, ...],
        read: tuple[PlannedSlab, ...] = (),
    ) -> PlannedSlab:
        read = read or (x,)
        hidden = self.counter.allocate(channels * self._places(level))
        self._sweep(9 * entering * channels, entering + channels, level, hidden, *read)
        in_place = self.dilation <= self.band_rows
        out = hidden if in_place else self.counter.allocate(channels * self._places(level))
        shortcut = entering * channels if entering != channels else 0
        self._sweep(9 * channels**2 + shortcut, 2 * channels, level, hidden, out, *read)
        self.counter.count_band((3 * entering + 2 * channels) * self._band_places(level))
        if not in_place:
            self.counter.free(hidden)
        self.counter.free(*release)
        return out

    def _transformer(self, x: PlannedSlab, level: int, depth: int) -> PlannedSlab:
        """In place of x."""
        if not depth:
            return x
        c, places = self.shape.channels[level], self._places(level)
        tokens = self.counter.allocate(c * places) if depth > 1 else None
        reading = (
            4 * c * c / self.shape.f_divisor + 2 * c * c / self.shape.heads[level] if self.linear else 2.0 * c * places
        )
        block = 4 * c * c + reading + 2 * c * c + 2 * c * TEXT_TOKENS + 12 * c * c
        self._sweep(2 * c * c + depth * block, (2 + 24 * depth) * c, level, *[tokens or x] * 2 * depth, x, x)
        remembered = (
            0 if self.linear else 2 * c * places * min(depth, 2)
        )  # keys and values, of the block that is read and of the next
        self.counter.count_band(19 * c * self._band_places(level) + remembered)
        if tokens:
            self.counter.free(tokens)
        return x


def unet_cost(
    shape: UNetShape,
    latent: Size,
    band_rows: int,
    dilation: int,
    store_budget: StoreBudget,
    number_bytes: int,
    *,
    linear: bool,
    controlnets: int = 0,
    guided: bool = False,
) -> CostCounter:
    """The counter of one pass for one sample, in bands of so many rows or (0) of the whole image at once.

    At once, the same layers are run, but all of a level's values are alive in its hungriest layer, and nothing is in place;
    those of two samples, where a guided pass of a small image is a batch.
    """
    if band_rows:
        return UNetCost(shape, latent, band_rows, dilation, linear, CostCounter(store_budget, number_bytes)).run(
            controlnets
        )
    whole = CostCounter(StoreBudget.unlimited(), number_bytes)
    UNetCost(shape, latent, latent.height, dilation, linear, whole).run(controlnets)
    samples = 2 if guided and latent.area <= BATCHED_LATENTS else 1
    whole.band_values *= samples
    whole.peak_bytes["device"] *= samples
    return whole
