"""Where activations wait between two sweeps: on the device, in RAM, or in a file, whichever still has store_budget."""

from __future__ import annotations

import errno
import math
import os
import tempfile
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from linfusion_cli.engine.memory.async_copies import CopiedSlab, Copies, CudaStreams, Streams
from linfusion_cli.errors import DiskFullError, OutputError, ran_out_of_memory
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import PLACES, Place, StoreBudget

T = TypeVar("T")
Shape = tuple[int, int, int]  # height, width, channels: a row is one piece


class Slab(Protocol):
    """StoreBudget for one image of activations, (height, width, channels)."""

    def read(self, band: Band) -> Tensor:
        """Rows of it, (band.height, width, channels)."""
        ...

    def write(self, band: Band, rows: Tensor) -> None:
        """Stores rows of that shape."""
        ...


@dataclass(frozen=True, slots=True, weakref_slot=True)
class MemorySlab:
    """A tensor, on the device or in RAM."""

    values: Tensor

    @property
    def in_place(self) -> bool:
        return True

    @property
    def height(self) -> int:
        return self.values.shape[0]

    def landing(self, band: Band) -> Tensor:
        return self.values[band.rows]

    def read(self, band: Band) -> Tensor:
        return self.values[band.rows]

    def write(self, band: Band, rows: Tensor) -> None:
        self.values[band.rows] = rows


@dataclass(frozen=True, slots=True, weakref_slot=True)
class FileSlab:
    """A nameless file, read and written explicitly: mapped pages would count as memory, and nothing is left behind by a crash."""

    file: IO[bytes]
    shape: Shape
    dtype: torch.dtype
    pinned: bool

    @staticmethod
    def create(folder: Path, shape: Shape, dtype: torch.dtype, *, pinned: bool) -> FileSlab:
        """Takes the whole room on the disk at once; OutputError if it is not there."""
        size = math.prod(shape) * dtype.itemsize
        try:
            file = tempfile.TemporaryFile(dir=folder, buffering=0, prefix=".linfusion-")  # noqa: SIM115  # the store closes it
        except OSError as error:
            raise _full(folder, size, error) from error
        try:
            _reserve(file, size)
        except OSError as error:
            file.close()
            raise _full(folder, size, error) from error
        return FileSlab(file, shape, dtype, pinned)

    @property
    def in_place(self) -> bool:
        return False

    @property
    def height(self) -> int:
        return self.shape[0]

    def landing(self, band: Band) -> Tensor:
        return torch.empty((band.height, *self.shape[1:]), dtype=self.dtype, pin_memory=self.pinned)

    def read(self, band: Band) -> Tensor:
        rows = self.landing(band)
        view = _bytes(rows)
        self.file.seek(band.top * self._row_bytes)
        done = 0
        while done < len(view):  # one call moves at most 2 GiB
            done += self._count(self.file.readinto(view[done:]))  # type: ignore[attr-defined]
        return rows

    def write(self, band: Band, rows: Tensor) -> None:
        view = _bytes(rows.to("cpu", self.dtype).contiguous())
        self.file.seek(band.top * self._row_bytes)
        done = 0
        try:
            while done < len(view):
                done += self._count(self.file.write(view[done:]))
        except OSError as error:
            raise _full(
                Path(self.file.name) if isinstance(self.file.name, str) else Path(), len(view), error
            ) from error

    @property
    def _row_bytes(self) -> int:
        return math.prod(self.shape[1:]) * self.dtype.itemsize

    @staticmethod
    def _count(moved: int | None) -> int:
        if not moved:
            raise OutputError("a scratch file ended before its time: the disk or its file system is damaged")
        return moved


def _bytes(rows: Tensor) -> memoryview:
    """The memory of a contiguous tensor, of any number format."""
    array: np.ndarray[Any, np.dtype[np.uint8]] = rows.view(torch.uint8).numpy()
    return memoryview(array).cast("B")  # type: ignore[arg-type]


def _reserve(file: IO[bytes], size: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


def _full(folder: Path, size: int, error: OSError) -> OutputError:
    kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else OutputError
    return kind(
        f"scratch folder {folder}: can't hold {size / 1e9:.2f} GB more ({error.strerror}). Give another with --scratch, or more memory"
    )


class Store:
    """Gives out slabs: the fastest place that has store_budget, in the order in which they are asked for; counts what is out.

    The plan makes the same choices in the same order, so it knows what will be where. Where memory runs out although the
    plan said otherwise, slabs go to the next place and bands become lower; `tell` is told each time.
    `streams` copy beside the compute; None: those of the device, if it is a GPU that has some. `relieve` is called after
    every band of every sweep.
    """

    def __init__(
        self,
        device: torch.device,
        store_budget: StoreBudget,
        tell: Callable[[str], None] = lambda _: None,
        streams: Streams | None = None,
        relieve: Callable[[], None] = lambda: None,
    ) -> None:
        self.device, self._store_budget, self.tell, self._relieve = device, store_budget, tell, relieve
        if streams is None and device.type == "cuda":
            streams = CudaStreams.on(device)
        self.copies = Copies(streams) if streams else None
        self._halvings = 0
        self.device_bytes = self.memory_bytes = self.file_bytes = 0
        self.peak_device_bytes = self.peak_memory_bytes = self.peak_file_bytes = 0

    @staticmethod
    def unlimited(device: torch.device) -> Store:
        """Everything on the device."""
        return Store(device, StoreBudget.unlimited())

    def slab(self, shape: Shape, dtype: torch.dtype) -> Slab:
        """StoreBudget for an image; it comes back when the slab is forgotten. Raises OutputError if a file finds no space."""
        size = math.prod(shape) * dtype.itemsize
        planned = self._store_budget.place(self.device_bytes, self.memory_bytes, size)
        for place in PLACES[PLACES.index(planned) :]:
            made = self.attempt(partial(self._make, place, shape, dtype), last=place == "file")
            if made is not None:
                break
            self.tell(f"no memory for {size / 1e9:.2f} GB more, which had been planned: they wait elsewhere")
        assert made is not None
        slab = CopiedSlab(made, self.copies) if self.copies and place != "device" else made
        self._count(place, size)
        weakref.finalize(slab, self._give_back, place, size, made.file if isinstance(made, FileSlab) else None)
        return slab

    def start_sweep(self) -> None:
        """A sweep over some fields begins."""
        if self.copies:
            self.copies.start()

    def look_ahead(self, band: Band, planned_height: int, height: int) -> None:
        """A band of a sweep over `height` rows is computed, or will be by the device: fetches what the next one will read."""
        self._relieve()
        if self.copies:
            following = Band(band.bottom, min(band.bottom + self.band_height(planned_height), height))
            self.attempt(
                partial(self.copies.look_ahead, band, following, height), last=False
            )  # without memory it is read when it is needed

    def band_height(self, planned: int) -> int:
        """How high a band of a planned height may be now."""
        return max(1, planned >> self._halvings)

    def halve_bands(self) -> None:
        """From now on every band is half as high: memory ran out."""
        self._halvings += 1
        self.tell(f"memory ran out although it was planned: from here on bands are 1/{1 << self._halvings} as high")

    def attempt(self, work: Callable[[], T], *, last: bool) -> T | None:
        """What some work gives, or None if memory ran out under it; the last attempt raises its error."""
        try:
            return work()
        except (MemoryError, RuntimeError) as error:
            if last or not ran_out_of_memory(error):
                raise
        if self.copies:
            self.copies.release()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()  # here, where the error holds no tensors any more
        return None

    def _make(self, place: Place, shape: Shape, dtype: torch.dtype) -> MemorySlab | FileSlab:
        pinned = self.device.type == "cuda"
        if place == "file":
            return FileSlab.create(self._store_budget.folder, shape, dtype, pinned=pinned)
        if place == "memory":
            return MemorySlab(torch.empty(shape, dtype=dtype, pin_memory=pinned))
        return MemorySlab(torch.empty(shape, dtype=dtype, device=self.device))

    def _give_back(self, place: str, size: int, file: IO[bytes] | None) -> None:
        if file is not None:
            file.close()
        self._count(place, -size)

    def _count(self, place: str, size: int) -> None:
        held = getattr(self, f"{place}_bytes") + size
        setattr(self, f"{place}_bytes", held)
        setattr(self, f"peak_{place}_bytes", max(held, getattr(self, f"peak_{place}_bytes")))
