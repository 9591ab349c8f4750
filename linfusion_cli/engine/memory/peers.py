"""The other processes that compute the same image, as the engine sees them; one process alone has none."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from linfusion_cli.geometry import Band


class Peers(Protocol):
    """How the rows of an image are split over processes, and how their results come together.

    All processes must call these methods in the same order.
    """

    def own(self, height: int) -> Band:
        """The rows that this process computes, of a layer of `height` rows; perhaps none."""
        ...

    def start_sweep(self, source: Any) -> Band:
        """Fetches the rows that this process's part of a field reads of others' parts; returns its own rows."""
        ...

    def merged(self, mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Mean and variance per channel of all processes' rows, from those of this one's `rows` rows."""
        ...

    def summed(self, *sums: Tensor) -> tuple[Tensor, ...]:
        """The sums of each tensor over all processes."""
        ...

    def gathered(self, own: Tensor, height: int, axis: int = 2) -> Tensor:
        """All processes' parts one after the other along `axis`.

        own: of own(height), with a whole number of entries for each row along `axis`, none for no rows
        """
        ...


class Alone:
    """One process that computes all rows."""

    def own(self, height: int) -> Band:
        return Band(0, height)

    def start_sweep(self, source: Any) -> Band:
        return Band(0, source.height)

    def merged(self, mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        return mean, variance

    def summed(self, *sums: Tensor) -> tuple[Tensor, ...]:
        return sums

    def gathered(self, own: Tensor, height: int, axis: int = 2) -> Tensor:
        return own


ALONE = Alone()
