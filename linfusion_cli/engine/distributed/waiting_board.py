"""Which ranks of one machine wait for a message now: a byte for each, in a file that all of them map.

When a rank says nothing for too long, those that wait for it time out too. This tells the one from the others.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class WaitingBoard:
    """The bytes of all ranks, of which this process writes its own: 1 while it waits."""

    flags: mmap.mmap
    rank: int

    @staticmethod
    def of(path: Path, rank: int, size: int) -> WaitingBoard:
        """The board of `size` ranks at a path, which is made if it is not there. Raises OSError if it can't be."""
        with path.open("a+b") as file:
            if path.stat().st_size < size:
                file.truncate(size)  # each rank may be the first: the bytes are zeros either way
            return WaitingBoard(mmap.mmap(file.fileno(), size), rank)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Marks this rank while the block runs, and on if it raises: a rank that lost a message waited for it."""
        self.flags[self.rank] = 1
        yield
        self.flags[self.rank] = 0

    def all_waiting(self) -> frozenset[int]:
        """The ranks that wait, or waited for what they lost."""
        return frozenset(rank for rank, flag in enumerate(self.flags[:]) if flag)
