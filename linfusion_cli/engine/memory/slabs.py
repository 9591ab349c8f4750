"""Slabs: where one image of activations waits, as (height, width, channels), in memory or in a scratch file."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
import torch
from torch import Tensor

from linfusion_cli.errors import DiskFullError, OutputError, option
from linfusion_cli.geometry import Band

Shape = tuple[int, int, int]  # height, width, channels: a row is contiguous


class Slab(Protocol):
    """Holds one image of activations, (height, width, channels)."""

    def read(self, band: Band) -> Tensor:
        """Rows of it, (band.height, width, channels)."""
        ...

    def write(self, band: Band, rows: Tensor) -> None:
        """Stores rows of that shape."""
        ...


@dataclass(frozen=True, slots=True, weakref_slot=True)
class MemorySlab:
    """A tensor (height, width, channels), on the device or in RAM."""

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
    """A file without a name, read and written by calls.

    Mapped pages would count as memory of the process. Without a name, a crash leaves nothing behind.
    pinned: rows are read into page-locked RAM, for a GPU.
    """

    file: IO[bytes]
    folder: Path
    shape: Shape
    dtype: torch.dtype
    pinned: bool

    @staticmethod
    def create(folder: Path, shape: Shape, dtype: torch.dtype, *, pinned: bool) -> FileSlab:
        """Reserves the whole size on the disk at once.

        Raises DiskFullError if the disk lacks the space, OutputError if the folder can't be written.
        """
        size_bytes = math.prod(shape) * dtype.itemsize
        try:
            # the store closes it
            file = tempfile.TemporaryFile(dir=folder, buffering=0, prefix=".linfusion-")  # noqa: SIM115
        except OSError as error:
            raise _cannot_hold(folder, size_bytes, error) from error
        try:
            _reserve(file, size_bytes)
        except OSError as error:
            file.close()
            raise _cannot_hold(folder, size_bytes, error) from error
        return FileSlab(file, folder, shape, dtype, pinned)

    @property
    def in_place(self) -> bool:
        return False

    @property
    def height(self) -> int:
        return self.shape[0]

    def landing(self, band: Band) -> Tensor:
        return torch.empty((band.height, *self.shape[1:]), dtype=self.dtype, pin_memory=self.pinned)

    def read(self, band: Band) -> Tensor:
        """Raises OutputError if the file ends early."""
        rows = self.landing(band)
        self._transfer(band, _bytes(rows), self.file.readinto)  # type: ignore[attr-defined]
        return rows

    def write(self, band: Band, rows: Tensor) -> None:
        """Raises DiskFullError or OutputError if the disk refuses the rows."""
        view = _bytes(rows.to("cpu", self.dtype).contiguous())
        try:
            self._transfer(band, view, self.file.write)
        except OSError as error:
            raise _cannot_hold(self.folder, len(view), error) from error

    def _transfer(self, band: Band, view: memoryview, call: Callable[[memoryview], int | None]) -> None:
        """Repeats a read or write until all bytes of a band are through: one call takes at most 2 GiB."""
        self.file.seek(band.top * math.prod(self.shape[1:]) * self.dtype.itemsize)
        done = 0
        while done < len(view):
            count = call(view[done:])
            if not count:
                raise OutputError("a scratch file ended too early: the disk or its file system is damaged")
            done += count


def _bytes(rows: Tensor) -> memoryview:
    """The memory of a contiguous tensor, of any number format."""
    array: np.ndarray[Any, np.dtype[np.uint8]] = rows.view(torch.uint8).numpy()
    return memoryview(array).cast("B")  # type: ignore[arg-type]


def _reserve(file: IO[bytes], size_bytes: int) -> None:
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size_bytes)
    else:
        file.truncate(size_bytes)


def _cannot_hold(folder: Path, size_bytes: int, error: OSError) -> OutputError:
    kind = DiskFullError if error.errno in (errno.ENOSPC, errno.EDQUOT) else OutputError
    return kind(
        f"scratch folder {folder}: can't hold {size_bytes / 1e9:.2f} GB more ({error.strerror}). Give another ",
        option("scratch_folder"),
        ", or more ",
        option("max_memory"),
    )
