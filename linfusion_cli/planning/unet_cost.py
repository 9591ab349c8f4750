"""A pass of the UNet in numbers: mirrors engine/streaming/banded_unet.py, or estimates the whole image at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

from linfusion_cli.geometry import Size
from linfusion_cli.planning.attention_scores import score_bytes
from linfusion_cli.planning.memory_budget import CostCounter, PlannedSlab, StoreBudget
from linfusion_cli.planning.model_shapes import UNetShape

TEXT_TOKENS = 77
BATCHED_LATENTS = 128 * 128  # up to this many latents both halves of the guidance run as one batch
LATENT_CHANNELS = 4
Skip = tuple[int, PlannedSlab]  # channels, and where the activation waits


@dataclass(frozen=True, slots=True)
class UNetCost:
    """Counts one pass for one sample.

    latent:    the size of the image in latents
    band_rows: a band's height in rows of each level
    dilation:  of every convolution
    linear:    the self-attentions are linear
    scores:    softmax attention keeps its scores (attention_scores.py)
    """

    shape: UNetShape
    latent: Size
    band_rows: int
    dilation: int
    linear: bool
    counter: CostCounter
    scores: bool = False

    def run(self, controlnets: int = 0) -> CostCounter:
        """A whole pass. The images of ControlNets wait all the time, and their residuals until the pass is over."""
        channels = self.shape.channels
        conditions = [self.counter.allocate(channels[0] * self._positions(0)) for _ in range(controlnets)]
        residuals = [self._controlnet(condition) for condition in conditions]
        *skips, (_, x) = self._with_residuals(self._down(), residuals) if controlnets else self._down()
        x = self._up(skips, x)
        self._sweep(9 * LATENT_CHANNELS * channels[0], channels[0], 0, x)
        self.counter.free(x, *conditions, *chain(*residuals))
        return self.counter

    def _up(self, skips: list[Skip], x: PlannedSlab) -> PlannedSlab:
        channels, previous = self.shape.channels, self.shape.channels[-1]
        for level in self._levels_up:
            for _ in range(self.shape.layers + 1):
                width, skip = skips.pop()
                x = self._resnet(x, previous + width, channels[level], level, release=(x, skip), read=(x, skip))
                x = self._transformer(x, level, self.shape.depths[level])
                previous = channels[level]
            if level:
                x = self._park(9 * previous**2, previous, level - 1, x)
        return x

    def _down(self) -> list[Skip]:
        """Every skip, and the middle block's output last."""
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
        return [*skips, (previous, self._middle(x, previous, last))]

    def _middle(self, x: PlannedSlab, channels: int, level: int) -> PlannedSlab:
        x = self._resnet(x, channels, channels, level, release=())
        x = self._transformer(x, level, self.shape.middle_depth)
        return self._resnet(x, channels, channels, level, release=(x,))

    def _controlnet(self, condition: PlannedSlab) -> list[PlannedSlab]:
        """A ControlNet is a UNet's way down. Each of its fields runs through a 1x1 convolution when it is added."""
        self.counter.count_copies(condition)
        self.counter.count_buffers(self._share(0), condition)
        return [slab for _, slab in self._down()]

    def _with_residuals(self, skips: list[Skip], residuals: list[list[PlannedSlab]]) -> list[Skip]:
        """The skips, and the middle's output, after the residuals of every ControlNet are added in place."""
        levels = [*self._skip_levels(), len(self.shape.channels) - 1]
        for (channels, slab), level, *added in zip(skips, levels, *residuals, strict=True):
            self._sweep(len(added) * channels**2, channels, level, slab, slab, *added)
        return skips

    def _skip_levels(self) -> Iterator[int]:
        """The level of each skip, from the first convolution's on."""
        yield 0
        last = len(self.shape.channels) - 1
        for level in range(last + 1):
            yield from (level,) * self.shape.layers
            if level < last:
                yield level + 1

    @property
    def _levels_up(self) -> range:
        return range(len(self.shape.channels) - 1, -1, -1)

    def _positions(self, level: int) -> int:
        """How many positions (rows times columns) an activation of a level has."""
        side = 1 << level
        return -(-self.latent.width // side) * -(-self.latent.height // side)

    def _band_positions(self, level: int) -> int:
        """The same of a band with its halo."""
        width, height = (-(-side // (1 << level)) for side in (self.latent.width, self.latent.height))
        return width * min(height, self.band_rows + 2 * self.dilation)

    def _share(self, level: int) -> float:
        return self._band_positions(level) / self._positions(level)

    def _sweep(self, macs: float, channels: float, level: int, *copied: PlannedSlab) -> None:
        """A sweep of `macs` multiply-adds and `channels` values per position; reads and writes `copied`."""
        height, positions = -(-self.latent.height // (1 << level)), self._positions(level)
        # the rows of a band's halo are computed twice
        again = 1 + 2 * self.dilation / min(self.band_rows, height) if self.band_rows < height else 1
        self.counter.count_sweep(macs * again * positions, channels * positions, -(-height // self.band_rows))
        self.counter.count_copies(*copied)
        self.counter.count_buffers(self._share(level), *copied)

    def _park(self, macs: float, channels: int, level: int, x: PlannedSlab | None = None) -> PlannedSlab:
        """A field that is computed into a slab of its own; `x`, its source, is needed no more."""
        slab = self.counter.allocate(channels * self._positions(level))
        self._sweep(macs, channels, level, slab, *([x] if x else []))
        self.counter.count_band(4 * channels * self._band_positions(level))
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
        """entering: channels of the input, which lies in `read` (x alone by default); `release` is freed at the end."""
        read = read or (x,)
        hidden = self.counter.allocate(channels * self._positions(level))
        self._sweep(9 * entering * channels, entering + channels, level, hidden, *read)
        in_place = self.dilation <= self.band_rows
        out = hidden if in_place else self.counter.allocate(channels * self._positions(level))
        shortcut = entering * channels if entering != channels else 0
        self._sweep(9 * channels**2 + shortcut, 2 * channels, level, hidden, out, *read)
        self.counter.count_band((3 * entering + 2 * channels) * self._band_positions(level))
        self.counter.free(*(() if in_place else (hidden,)), *release)
        return out

    def _transformer(self, x: PlannedSlab, level: int, depth: int) -> PlannedSlab:
        """`depth` blocks; the result lies in x."""
        if not depth:
            return x
        c, positions = self.shape.channels[level], self._positions(level)
        tokens = self.counter.allocate(c * positions) if depth > 1 else None
        macs = 2 * c * c + depth * self._block_macs(level)
        self._sweep(macs, (2 + 24 * depth) * c, level, *[tokens or x] * 2 * depth, x, x)
        # keys and values of the block that is read and of the next one
        key_value = 0 if self.linear else 2 * c * positions * min(depth, 2)
        self.counter.count_band(19 * c * self._band_positions(level) + key_value + self._score_values(c, level))
        if tokens:
            self.counter.free(tokens)
        return x

    def _score_values(self, channels: int, level: int) -> float:
        """What the hungrier attention of a block takes where scores are kept, in values."""
        if not self.scores:
            return 0
        keys = TEXT_TOKENS if self.linear else max(TEXT_TOKENS, self._positions(level))
        heads = self.shape.heads[level]
        return score_bytes(self._band_positions(level), keys, channels, heads) / self.counter.number_bytes

    def _block_macs(self, level: int) -> float:
        """Multiply-adds of a transformer block per position: both attentions and the feed-forward layers."""
        c = self.shape.channels[level]
        projections, cross, feed_forward = 4 * c * c, 2 * c * c + 2 * c * TEXT_TOKENS, 12 * c * c
        linear = 4 * c * c / self.shape.f_divisor + 2 * c * c / self.shape.heads[level]
        softmax = 2.0 * c * self._positions(level)
        return projections + (linear if self.linear else softmax) + cross + feed_forward


def largest_whole_values(shape: UNetShape, latent: Size, samples: int) -> int:
    """Values of the largest tensor of a pass over the whole image: a joined input on the way up, or a GEGLU's."""
    deeper = (*shape.channels[1:], shape.channels[-1])
    return max(
        samples
        * -(-latent.width // (1 << level))
        * -(-latent.height // (1 << level))
        * max(own + below, 8 * own * (depth > 0))
        for level, (own, below, depth) in enumerate(zip(shape.channels, deeper, shape.depths, strict=True))
    )


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
    share: float = 1.0,
    scores: bool = False,
) -> CostCounter:
    """Counts one pass for one sample, in bands of `band_rows` rows of each level, or (0) of the whole image at once.

    At once, all of a level's values are alive in its hungriest layer, and everything lies on the device. Where a guided
    pass of a small image is a batch, the values of two samples are. share: the part of each slab that lies here.
    scores: softmax attention keeps them, as far as they are not limited.
    """
    if band_rows:
        counter = CostCounter(store_budget, number_bytes, share)
        return UNetCost(shape, latent, band_rows, dilation, linear, counter, scores).run(controlnets)
    whole = CostCounter(StoreBudget.unlimited(), number_bytes)
    UNetCost(shape, latent, latent.height, dilation, linear, whole, scores).run(controlnets)
    samples = 2 if guided and latent.area <= BATCHED_LATENTS else 1
    whole.band_values *= samples
    whole.peak_bytes["device"] *= samples
    return whole
