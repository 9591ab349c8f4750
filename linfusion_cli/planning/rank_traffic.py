"""What the ranks of one image send to one another: a formula over the layers, for plans and for the page on scale.

It mirrors engine/streaming/banded_unet.py and engine/distributed/; a test counts the bytes of real passes against it.
"""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.geometry import Size
from linfusion_cli.planning.model_shapes import UNetShape
from linfusion_cli.planning.row_split import RowSplit
from linfusion_cli.planning.unet_cost import LATENT_CHANNELS

SUM_BYTES = 8  # sums and statistics are exchanged in float64


@dataclass(frozen=True, slots=True, kw_only=True)
class RankTraffic:
    """What all ranks together send in one pass.

    halo_bytes:       rows beyond a rank's own, for 3x3 convolutions
    statistics_bytes: of norms, and states of linear attention
    gathered_bytes:   the prediction, and keys and values of softmax attention
    waits:            how often a rank waits for others
    """

    halo_bytes: int
    statistics_bytes: int
    gathered_bytes: int
    waits: int

    @property
    def total_bytes(self) -> int:
        return self.halo_bytes + self.statistics_bytes + self.gathered_bytes

    def __add__(self, other: RankTraffic) -> RankTraffic:
        return RankTraffic(
            halo_bytes=self.halo_bytes + other.halo_bytes,
            statistics_bytes=self.statistics_bytes + other.statistics_bytes,
            gathered_bytes=self.gathered_bytes + other.gathered_bytes,
            waits=self.waits + other.waits,
        )

    def seconds(self, ranks: int, bytes_per_second: float, wait_seconds: float) -> float:
        """How long the messages of a pass take, each rank sending its part over a link of its own, one after another.

        bytes_per_second: of a rank's link, in each direction; wait_seconds: until the smallest message has come
        """
        return self.total_bytes / ranks / bytes_per_second + self.waits * wait_seconds


@dataclass(slots=True)
class _Counter:
    """Adds up one pass over `split.ranks` ranks of a UNet whose level 0 has `latent`'s rows and columns."""

    latent: Size
    split: RowSplit
    dilation: int
    number_bytes: int
    halo: int = 0
    statistics: int = 0
    gathered: int = 0
    waits: int = 0

    def size(self, level: int) -> Size:
        return Size(-(-self.latent.width // (1 << level)), -(-self.latent.height // (1 << level)))

    def convolution(self, level: int, channels: int, *, halving: bool = False, doubling: bool = False) -> None:
        """A 3x3 convolution that reads slabs of `channels` channels of a level, rows above and below a rank's own.

        halving: in steps of two rows, from an even row on; doubling: of a field with each row twice
        """
        pairs = -(-self.dilation // 2)
        reach = pairs if doubling else 2 * pairs if halving else self.dilation
        rows = self._rows_sent(self.size(level).height, reach)
        self.halo += rows * self.size(level).width * channels * self.number_bytes
        self.waits += 1

    def park(self, channels: int) -> None:
        """A field is stored: mean, variance and number of rows of each channel go to all."""
        ranks = self.split.ranks
        self.statistics += ranks * (ranks - 1) * 3 * channels * SUM_BYTES
        self.waits += 1

    def attention(self, level: int, channels: int, heads: int, *, linear: bool) -> None:
        """Sums S (heads, dim, dim) and m (heads, dim) by a ring; or keys and values of all tokens, to all."""
        others = self.split.ranks - 1
        if linear:
            self.statistics += 2 * others * (channels * (channels // heads) + channels) * SUM_BYTES
        else:
            self.gathered += 2 * channels * self.size(level).area * others * self.number_bytes
        self.waits += 1

    def prediction(self) -> None:
        self.gathered += LATENT_CHANNELS * self.latent.area * (self.split.ranks - 1) * self.number_bytes
        self.waits += 1

    def _rows_sent(self, height: int, reach: int) -> int:
        """How many rows are read beyond the ranks' own, by all of them; those without rows read none."""
        own = [band for band in self.split.all(height) if band.height]
        return sum(min(band.top, reach) + min(height - band.bottom, reach) for band in own)


def unet_traffic(
    shape: UNetShape, latent: Size, split: RowSplit, *, number_bytes: int, linear: bool, dilation: int = 1
) -> RankTraffic:
    """One pass for one sample over the ranks of a split (without guidance in halves: of one half)."""
    counter = _Counter(latent, split, dilation, number_bytes)
    if split.ranks > 1:
        _Pass(shape, counter, linear).run()
    return RankTraffic(
        halo_bytes=counter.halo,
        statistics_bytes=counter.statistics,
        gathered_bytes=counter.gathered,
        waits=counter.waits,
    )


@dataclass(frozen=True, slots=True)
class _Pass:
    """The layers of a UNet in their order; see unet_cost.UNetCost, which counts work and memory over the same ones."""

    shape: UNetShape
    counter: _Counter
    linear: bool

    def run(self) -> None:
        channels = self.shape.channels
        self.counter.park(channels[0])  # the first convolution reads latents, which all have
        skips = self._down()
        previous = channels[-1]
        self._resnet(len(channels) - 1, previous, previous)
        self._transformer(len(channels) - 1, self.shape.middle_depth)
        self._resnet(len(channels) - 1, previous, previous)
        for level in range(len(channels) - 1, -1, -1):
            for _ in range(self.shape.layers + 1):
                self._resnet(level, previous + skips.pop(), channels[level])
                self._transformer(level, self.shape.depths[level])
                previous = channels[level]
            if level:
                self.counter.convolution(level, previous, doubling=True)
                self.counter.park(previous)
        self.counter.convolution(0, channels[0])
        self.counter.prediction()

    def _down(self) -> list[int]:
        """The way down; the channels of every skip."""
        channels = self.shape.channels
        skips, previous = [channels[0]], channels[0]
        for level, width in enumerate(channels):
            for _ in range(self.shape.layers):
                self._resnet(level, previous, width)
                self._transformer(level, self.shape.depths[level])
                skips.append(width)
                previous = width
            if level < len(channels) - 1:
                self.counter.convolution(level, width, halving=True)
                self.counter.park(width)
                skips.append(width)
        return skips

    def _resnet(self, level: int, entering: int, channels: int) -> None:
        for read in (entering, channels):
            self.counter.convolution(level, read)
            self.counter.park(channels)

    def _transformer(self, level: int, depth: int) -> None:
        channels = self.shape.channels[level]
        for _ in range(depth):
            self.counter.attention(level, channels, self.shape.heads[level], linear=self.linear)
        if depth:
            self.counter.park(channels)
