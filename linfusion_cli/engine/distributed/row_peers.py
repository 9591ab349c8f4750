"""The other ranks as the streaming engine sees them: rows fetched before a sweep, sums and results put together."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.distributed.process_group import Group, Parcel
from linfusion_cli.engine.distributed.shared_slab import SharedSlab, fetch
from linfusion_cli.geometry import Band
from linfusion_cli.planning.row_split import RowSplit


@dataclass(slots=True)
class RowPeers:
    """The members of a group, each of which computes its rows of every layer; see engine/memory/peers.py.

    fetched: the slabs that hold others' rows for the sweep that runs; weak, so that their space is free when their
             field is garbage
    """

    group: Group
    split: RowSplit
    fetched: list[weakref.ref[SharedSlab]] = field(default_factory=list)

    def own(self, height: int) -> Band:
        return self.split.own(self.group.rank, height)

    def start_sweep(self, source: Any) -> Band:
        for reference in self.fetched:
            if (slab := reference()) is not None:
                slab.fetched.clear()
        self.fetched[:] = [weakref.ref(slab) for slab in fetch(self.group, self.split, source)]
        return self.own(source.height)

    def merged(self, mean: Tensor, variance: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """In float64, in the order of the ranks, as Chan, Golub and LeVeque do (1983, The American Statistician)."""
        own = torch.stack([mean, variance, torch.full_like(mean, rows)])
        self.group.traffic.statistics += own.nbytes * (self.group.size - 1)
        means, variances, counts = torch.stack(self.group.all_gathered(own)).unbind(1)
        weights = counts / counts.sum(0)
        whole = (weights * means).sum(0)
        return whole, (weights * (variances + (means - whole).square())).sum(0)

    def summed(self, *sums: Tensor) -> tuple[Tensor, ...]:
        together = torch.cat([each.flatten() for each in sums])
        self.group.traffic.statistics += 2 * together.nbytes * (self.group.size - 1) // self.group.size  # of a ring
        parts = self.group.all_summed(together).split([each.numel() for each in sums])
        return tuple(part.view_as(each) for part, each in zip(parts, sums, strict=True))

    def gathered(self, own: Tensor, height: int, axis: int = 2) -> Tensor:
        bands = self.split.all(height)
        own = own.to(self.group.device).contiguous()
        per_row = self._entries_per_row(own, bands, axis)
        others = [i for i in range(self.group.size) if i != self.group.rank]
        parts = [_like(own, axis, band.height * per_row) for band in bands]
        parts[self.group.rank] = own
        self.group.traffic.gathered += own.nbytes * len(others)
        sent = [Parcel(i, own) for i in others]
        self.group.exchange(sent, [Parcel(i, parts[i]) for i in others])
        return torch.cat(parts, dim=axis)

    def _entries_per_row(self, own: Tensor, bands: tuple[Band, ...], axis: int) -> int:
        """How many entries along `axis` a row has; a process without rows learns it from the others."""
        mine = own.shape[axis] // bands[self.group.rank].height if bands[self.group.rank].height else 0
        if all(band.height for band in bands):
            return mine
        return max(int(each) for each in self.group.all_gathered(torch.tensor(mine, device=self.group.device)))


def _like(own: Tensor, axis: int, entries: int) -> Tensor:
    shape = list(own.shape)
    shape[axis] = entries
    return own.new_empty(shape)
