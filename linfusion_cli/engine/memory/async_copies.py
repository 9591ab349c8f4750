"""Copies between a GPU and what waits in RAM or in files, beside the compute: two buffers each way (design 4).

Rows that are written leave the device on a stream of their own, behind the kernels that compute them; the rows of the
next band come in on it while a band is computed. The host runs ahead of the device, so a scratch file is read and
written while kernels run, without threads. All copies go through one stream, in the order in which they were asked for:
what is read after it was written is read right, whatever the band.
"""

from __future__ import annotations

import math
import weakref
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from linfusion_cli.geometry import Band

WRITES = 2  # copies on their way from the device: the host waits for the older before it asks for a third
REQUESTS = (
    2  # in a band, of one slab, by a convolution and by a skip; who asks more often jumps about and is not foreseen
)


class Streams(Protocol):
    """The copies that a device makes beside its compute, one after the other; an event is over when its copy is."""

    def download(self, source: Tensor, target: Tensor) -> Any:
        """Copies into RAM, once all that was computed before is done. The event; until then both must stay as they are."""
        ...

    def upload(self, source: Tensor) -> tuple[Tensor, Any]:
        """Copies to the device, without waiting for the compute: what comes of it, and the event."""
        ...

    def join(self, rows: Tensor, event: Any) -> None:
        """The compute waits for the event before it goes on, with `rows`; the host does not."""
        ...

    def mark(self) -> Any:
        """An event that is over when all that was computed so far is done."""
        ...

    def finish(self, event: Any) -> None:
        """The host waits for the event."""
        ...


@dataclass(frozen=True, slots=True)
class CudaStreams:
    """Streams of an NVIDIA or AMD GPU."""

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
        with torch.cuda.stream(self.stream):  # its memory too is this stream's: nothing of the compute can still use it
            return source.to(self.device, non_blocking=True), self.stream.record_event()

    def join(self, rows: Tensor, event: torch.cuda.Event) -> None:
        compute = torch.cuda.current_stream(self.device)
        compute.wait_event(event)
        rows.record_stream(compute)  # its memory is used again only when the compute is done with it

    def mark(self) -> Any:
        return torch.cuda.current_stream(self.device).record_event()

    def finish(self, event: torch.cuda.Event) -> None:
        event.synchronize()


class Waiting(Protocol):
    """A slab that is not on the device. in_place: what lands is there already; else it must be written."""

    @property
    def in_place(self) -> bool: ...
    @property
    def height(self) -> int: ...
    def landing(self, band: Band) -> Tensor:
        """RAM in which a copy of these rows may land, (band.height, width, channels)."""
        ...

    def read(self, band: Band) -> Tensor: ...
    def write(self, band: Band, rows: Tensor) -> None: ...


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class CopiedSlab:
    """A slab off the device that is read to it and written from it."""

    waiting: Waiting
    copies: Copies

    def read(self, band: Band) -> Tensor:
        return self.copies.read(self, band)

    def write(self, band: Band, rows: Tensor) -> None:
        self.copies.write(self, band, rows)


Reference = weakref.ref[
    CopiedSlab
]  # a slab's room goes back when its field is forgotten, not when its last copy is done


@dataclass(frozen=True, slots=True)
class _Write:
    """Rows on their way from the device, which are held until they have landed."""

    slab: Reference
    band: Band
    source: Tensor
    landing: Tensor
    event: Any


@dataclass(frozen=True, slots=True)
class _Ahead:
    """Rows on their way to the device, before they were asked for."""

    slab: Reference
    band: Band
    rows: Tensor
    event: Any


@dataclass(slots=True)
class Copies:
    """The copies of one store. peak_bytes: the most that its buffers held on the device."""

    streams: Streams
    peak_bytes: int = 0
    foreseen: int = 0  # requests that found their rows on the way
    _writes: deque[_Write] = field(default_factory=deque)
    _ahead: list[_Ahead] = field(default_factory=list)
    _asked: list[tuple[Reference, Band]] = field(default_factory=list)
    _computed: deque[Any] = field(default_factory=deque)

    def read(self, slab: CopiedSlab, band: Band) -> Tensor:
        """Rows on the device, which the compute may use from here on."""
        self._asked.append((weakref.ref(slab), band))
        for ahead in self._ahead:
            if ahead.slab() is slab and ahead.band.top <= band.top and band.bottom <= ahead.band.bottom:
                self.foreseen += 1
                self.streams.join(ahead.rows, ahead.event)
                return ahead.rows[band.top - ahead.band.top : band.bottom - ahead.band.top]
        rows, event = self._upload(slab, band)
        self.streams.join(rows, event)
        return rows

    def write(self, slab: CopiedSlab, band: Band, rows: Tensor) -> None:
        """Sends rows away, which must not be changed afterwards. Raises OutputError, perhaps of an earlier write, if the disk fails."""
        self._ahead = [ahead for ahead in self._ahead if not (ahead.slab() is slab and _overlap(ahead.band, band))]
        while len(self._writes) >= WRITES:
            self._land()
        landing = slab.waiting.landing(band)
        source = rows.to(landing.dtype).contiguous()
        self._writes.append(_Write(weakref.ref(slab), band, source, landing, self.streams.download(source, landing)))
        self._count(0)

    def start(self) -> None:
        """A sweep begins: what was asked for before says nothing about it."""
        self._ahead.clear()
        self._asked.clear()

    def look_ahead(self, band: Band, following: Band, height: int) -> None:
        """Fetches what the band after `band` will ask for, of the slabs that `band` asked, in a sweep over `height` rows."""
        wanted = list(self._foreseen(band, following, height)) if following.height else []
        present = sum(ahead.rows.nbytes for ahead in self._ahead)  # the compute of `band` may still read them
        self.start()
        if wanted:
            self._keep_pace()
        for slab, rows in wanted:
            self._ahead.append(_Ahead(weakref.ref(slab), rows, *self._upload(slab, rows)))
        self._count(present)

    def release(self) -> None:
        """Frees all buffers: memory ran out."""
        self.start()
        while self._writes:
            self._land()

    def _foreseen(self, band: Band, following: Band, height: int) -> Iterator[tuple[CopiedSlab, Band]]:
        asked: dict[CopiedSlab, list[Band]] = {}
        for reference, request in self._asked:
            if (slab := reference()) is not None:
                asked.setdefault(slab, []).append(request)
        for slab, requests in asked.items():
            if len(requests) <= REQUESTS:
                moved = [
                    next_request(request, band, following, slab.waiting.height / height, slab.waiting.height)
                    for request in requests
                ]
                yield slab, Band(min(request.top for request in moved), max(request.bottom for request in moved))

    def _keep_pace(self) -> None:
        """Waits for the band before: further ahead of the device, every band's rows would take memory that is not free again yet."""
        self._computed.append(self.streams.mark())
        if len(self._computed) > 1:
            self.streams.finish(self._computed.popleft())

    def _upload(self, slab: CopiedSlab, band: Band) -> tuple[Tensor, Any]:
        """Starts a copy to the device; rows that wait in a file have to be there first."""
        while not slab.waiting.in_place and any(
            write.slab() is slab and _overlap(write.band, band) for write in self._writes
        ):
            self._land()
        return self.streams.upload(slab.waiting.read(band))

    def _land(self) -> None:
        """Waits for the oldest copy from the device, and writes it where it belongs if anybody can still ask for it."""
        write = self._writes[0]
        self.streams.finish(write.event)
        slab = write.slab()
        if slab is not None and not slab.waiting.in_place:
            slab.waiting.write(write.band, write.landing)
        self._writes.popleft()

    def _count(self, more: int) -> None:
        held = sum(ahead.rows.nbytes for ahead in self._ahead) + sum(write.source.nbytes for write in self._writes)
        self.peak_bytes = max(self.peak_bytes, held + more)


def next_request(asked: Band, band: Band, following: Band, scale: float, height: int) -> Band:
    """What will be asked for `following`, if `asked` was for `band`: as much further down, within rows 0 to `height`.

    scale: rows of the slab per row of the sweep. At the image's upper edge, where the halo was cut off, it is as high
    above as below. Where scales are not whole, a row more.
    """
    bottom = asked.bottom + (following.bottom - band.bottom) * scale
    below = max(0.0, asked.bottom - band.bottom * scale)
    top = asked.top + (following.top - band.top) * scale if asked.top else following.top * scale - below
    last = min(height, math.ceil(bottom))
    return Band(min(max(0, math.floor(top)), last - 1), last)


def _overlap(one: Band, other: Band) -> bool:
    return one.top < other.bottom and other.top < one.bottom
