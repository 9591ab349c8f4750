"""Which rows of an image each of several processes computes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from linfusion_cli.geometry import Band


def row_units(latent_rows: int, levels: int) -> int:
    """How many rows the coarsest level of a UNet has, whose levels each halve the rows: the parts that can be split."""
    return -(-latent_rows // (1 << (levels - 1)))


def useful_ranks(asked: int, latent_rows: int, levels: int, *, guided: bool) -> int:
    """The most ranks, up to `asked`, that each have rows.

    guided: there are two predictions, and an even number of ranks computes each on one half of them
    """
    units = row_units(latent_rows, levels)
    return min(asked, units) if not guided or asked <= units else min(asked // 2, units) * 2


@dataclass(frozen=True, slots=True)
class RowSplit:
    """The rows of an image over `ranks` processes, in units of one row of the coarsest level.

    A rank's rows at a level are the ones under its units, so that enlarging and reducing read no other rank's rows.
    Ranks may have no rows: where there are fewer units than ranks. shares: how many units each gets in proportion to
    the others, () for equally many.
    """

    units: int
    ranks: int
    shares: tuple[int, ...] = ()

    @staticmethod
    def of(latent_rows: int, levels: int, ranks: int, shares: tuple[int, ...] = ()) -> RowSplit:
        """For an image of `latent_rows` rows of latents in a UNet of `levels` levels."""
        return RowSplit(row_units(latent_rows, levels), ranks, shares)

    def own(self, rank: int, height: int) -> Band:
        """The rows of `rank` in a layer of `height` rows; an empty band for none."""
        rows = 1
        while rows * self.units < height:  # a unit's rows: a power of two, since each level halves
            rows *= 2
        top, bottom = (min(height, self._first_unit(i) * rows) for i in (rank, rank + 1))
        return Band(top, bottom)

    def _first_unit(self, rank: int) -> int:
        """Where the units of a rank begin. Each has one at least, if there are as many as ranks."""
        if not self.shares or self.units < self.ranks:
            return self.units * rank // self.ranks
        whole, sums = sum(self.shares), accumulate(self.shares[:rank])
        first = 0
        for number, before in enumerate(sums, 1):
            most = self.units - self.ranks + number  # the ranks behind it get one each
            first = min(max(self.units * before // whole, first + 1), most)
        return first

    def all(self, height: int) -> tuple[Band, ...]:
        """The rows of every rank."""
        return tuple(self.own(rank, height) for rank in range(self.ranks))
