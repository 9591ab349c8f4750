"""Copies between a GPU and slabs in RAM or in files, beside the compute (docs/design.md, section 4).

Written rows leave the device on a stream of their own, behind the kernels that compute them. The host runs ahead of the
device, so a scratch file is read and written while kernels run, without threads. All copies go through one stream, in
the order in which they were asked for: a read after a write of the same rows gets what was written.
"""

from __future__ import annotations

import weakref
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from linfusion_cli.geometry import Band

WRITES = 2  # copies on their way from the device: before a third, the host waits for the oldest


class Streams(Protocol):
    """The copies that a device makes beside its compute, one after the other; an event is over when its copy is."""

    def download(self, source: Tensor, target: Tensor) -> Any:
        """Copies into RAM, once all that was computed before is done.

        Returns the event; until it is over, source and target must stay as they are.
        """
        ...

    def upload(self, source: Tensor) -> tuple[Tensor, Any]:
        """Copies to the device, without waiting for the compute. Returns the copy and the event."""
        ...

    def join(self, rows: Tensor, event: Any) -> None:
        """The compute waits for the event before it goes on, with `rows`; the host does not wait."""
        ...

    def mark(self) -> Any:
        """An event that is over when all that was computed so far is done."""
        ...

    def finish(self, event: Any) -> None:
        """The host waits for the event."""
        ...


@dataclass(frozen=True, slots=True)
class CudaStreams:
    """A copy stream of an NVIDIA or AMD GPU."""

    device: torch.device
    stream: torch.cuda.Stream

    @staticmethod
    def on(device: torch.device) -> CudaStreams:
        return CudaStreams(device, torch.cuda.Stream(device))

    def download(self, source: Tensor, target: Tensor) -> Any:
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            target.copy_(source, non_blocking=True)
            return self.stream.record_event()

    def upload(self, source: Tensor) -> tuple[Tensor, Any]:
        with torch.cuda.stream(self.stream):  # memory of this stream: no kernel of the compute can still use it
            return source.to(self.device, non_blocking=True), self.stream.record_event()

    def join(self, rows: Tensor, event: torch.cuda.Event) -> None:
        compute = torch.cuda.current_stream(self.device)
        compute.wait_event(event)
        rows.record_stream(compute)  # the allocator reuses it only when the compute is done with it

    def mark(self) -> Any:
        return torch.cuda.current_stream(self.device).record_event()

    def finish(self, event: torch.cuda.Event) -> None:
        event.synchronize()


class OffDeviceSlab(Protocol):
    """A slab in RAM or in a file. in_place: its landing is the slab itself; else landed rows must still be written."""

    @property
    def in_place(self) -> bool: ...
    @property
    def height(self) -> int: ...
    def landing(self, band: Band) -> Tensor:
        """RAM in which a copy of these rows may land, (band.height, width, channels)."""
        ...

    def read(self, band: Band) -> Tensor: ...
    def write(self, band: Band, rows: Tensor) -> None: ...


@dataclass(frozen=True, slots=True)
class _Write:
    """Rows on their way from the device, which are held until they have landed.

    owner: whoever reads the slab; once it is garbage, nobody can ask for the rows
    """

    owner: weakref.ref[Any]
    slab: OffDeviceSlab
    band: Band
    source: Tensor
    landing: Tensor
    event: Any


@dataclass(slots=True)
class Copies:
    """The reads and writes of one store's slabs."""

    streams: Streams
    _writes: deque[_Write] = field(default_factory=deque)

    @property
    def pending_bytes(self) -> int:
        """Bytes on the device that wait to be copied away."""
        return sum(write.source.nbytes for write in self._writes)

    def upload(self, slab: OffDeviceSlab, band: Band) -> tuple[Tensor, Any]:
        """Starts a copy of rows (band.height, width, channels) to the device; returns the copy and its event.

        Rows that go into a file have to be there before they are read.
        """
        while not slab.in_place and any(write.slab is slab and overlap(write.band, band) for write in self._writes):
            self._land()
        return self.streams.upload(slab.read(band))

    def write(self, owner: object, slab: OffDeviceSlab, band: Band, rows: Tensor) -> None:
        """Starts a copy from the device. Raises OutputError, perhaps of an earlier write, if the disk fails."""
        while len(self._writes) >= WRITES:
            self._land()
        landing = slab.landing(band)
        source = rows.to(landing.dtype).contiguous()
        event = self.streams.download(source, landing)
        self._writes.append(_Write(weakref.ref(owner), slab, band, source, landing, event))

    def flush(self) -> None:
        """Waits until all writes have landed."""
        while self._writes:
            self._land()

    def _land(self) -> None:
        """Waits for the oldest copy from the device, and stores its rows if anybody can still ask for them."""
        write = self._writes[0]
        self.streams.finish(write.event)
        if write.owner() is not None and not write.slab.in_place:
            write.slab.write(write.band, write.landing)
        self._writes.popleft()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """The values on a device. The host goes on at once only where that is safe: from page-locked RAM to a card.

    Elsewhere the source may be freed or overwritten before it is read, without an error (pytorch #139550, #189690).
    """
    at_once = device.type == "cuda" and values.device.type == "cpu" and values.is_pinned()
    return values.to(device, non_blocking=at_once)


def overlap(one: Band, other: Band) -> bool:
    """Whether two bands share a row."""
    return one.top < other.bottom and other.top < one.bottom
