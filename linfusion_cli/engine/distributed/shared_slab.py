"""Slabs of which each process holds its own rows, and during a sweep the rows around them that it reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.distributed.process_group import Group, Parcel
from linfusion_cli.engine.memory.slabs import Slab
from linfusion_cli.engine.streaming.row_source import Field, Parked
from linfusion_cli.geometry import Band
from linfusion_cli.planning.row_split import RowSplit


@dataclass(slots=True, eq=False, weakref_slot=True)
class SharedSlab:
    """A slab of a whole image, addressed by the image's rows; only this process's own rows are stored here.

    own:      (own rows, width, channels)
    fetched:  rows of other processes, until the next sweep: (the image's rows, tensor of that height)
    """

    own: Slab
    split: RowSplit
    group: Group
    height: int
    row_shape: tuple[int, int]
    dtype: torch.dtype
    fetched: list[tuple[Band, Tensor]] = field(default_factory=list)

    @property
    def rows(self) -> Band:
        """The image's rows that are stored here."""
        return self.split.own(self.group.rank, self.height)

    def read(self, band: Band) -> Tensor:
        """Rows of it, (band.height, width, channels). Raises RuntimeError for rows that were not fetched."""
        rows = self.rows
        if rows.top <= band.top and band.bottom <= rows.bottom:
            return self._own(band)
        parts = [(part.top, self._own(part))] if (part := common(band, rows)).height else []
        for fetched, tensor in self.fetched:
            if (part := common(band, fetched)).height:
                parts.append((part.top, tensor[part.top - fetched.top : part.bottom - fetched.top]))
        if sum(len(part) for _, part in parts) != band.height:
            raise RuntimeError(f"rows {band} are read, but only {rows} and {[b for b, _ in self.fetched]} are here")
        return torch.cat([part for _, part in sorted(parts, key=lambda part: part[0])])

    def write(self, band: Band, rows: Tensor) -> None:
        """Stores those rows that are this process's own."""
        if (part := common(band, self.rows)).height:
            top = self.rows.top
            own = rows[part.top - band.top : part.bottom - band.top]
            self.own.write(Band(part.top - top, part.bottom - top), own)

    def _own(self, band: Band) -> Tensor:
        top = self.rows.top
        return self.own.read(Band(band.top - top, band.bottom - top))


def common(one: Band, other: Band) -> Band:
    """The rows of both; an empty band if there are none."""
    top = max(one.top, other.top)
    return Band(top, max(top, min(one.bottom, other.bottom)))


def needed(source: Field, band: Band) -> dict[int, tuple[SharedSlab, Band]]:
    """The shared slabs from which `source.rows(band)` reads, by identity, each with the rows that it reads."""
    found: dict[int, tuple[SharedSlab, Band]] = {}
    waiting: list[tuple[Field, Band]] = [(source, band)]
    while waiting:
        asked, rows = waiting.pop()
        waiting.extend(asked.reads(rows))
        slab: Any = asked.slab if isinstance(asked, Parked) else None
        if isinstance(slab, SharedSlab):
            _, before = found.get(id(slab), (slab, rows))
            found[id(slab)] = slab, Band(min(before.top, rows.top), max(before.bottom, rows.bottom))
    return found


def fetch(group: Group, split: RowSplit, source: Field) -> list[SharedSlab]:
    """Fetches what this process's rows of `source` read of others' rows; returns the slabs that hold fetched rows."""
    wanted: dict[int, tuple[SharedSlab, dict[int, Band]]] = {}
    for member, rows in enumerate(split.all(source.height)):
        if rows.height:
            for key, (slab, read) in needed(source, rows).items():
                wanted.setdefault(key, (slab, {}))[1][member] = read
    sent: list[Parcel] = []
    received: list[Parcel] = []
    for slab, by_member in wanted.values():
        slab.fetched.clear()
        sent += _outgoing(group, slab, by_member)
        received += _incoming(group, slab, by_member.get(group.rank))
    group.traffic.halos += sum(message.tensor.nbytes for message in sent)
    group.exchange(sent, received)
    return [slab for slab, _ in wanted.values()]


def _outgoing(group: Group, slab: SharedSlab, wanted: dict[int, Band]) -> list[Parcel]:
    parts = ((member, common(band, slab.rows)) for member, band in wanted.items() if member != group.rank)
    return [Parcel(member, slab.read(part).to(group.device).contiguous()) for member, part in parts if part.height]


def _incoming(group: Group, slab: SharedSlab, wanted: Band | None) -> list[Parcel]:
    """Buffers for the rows that this process wants; the slab finds them there when they have come."""
    messages: list[Parcel] = []
    for member, rows in enumerate(slab.split.all(slab.height) if wanted else ()):
        assert wanted is not None
        part = common(wanted, rows)
        if member != group.rank and part.height:
            tensor = torch.empty((part.height, *slab.row_shape), dtype=slab.dtype, device=group.device)
            slab.fetched.append((part, tensor))
            messages.append(Parcel(member, tensor))
    return messages
