"""Keeps the C library's heap small: weights lie in mappings of their own, freed memory goes back to the system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from linfusion_cli.system import process_setup

NEARLY = 0.9  # of the planned peak; docs/log.md
WEIGHT_BYTES = 1 << 20  # smaller ones do not matter


@contextmanager
def large_apart() -> Iterator[None]:
    """Inside, every weight gets a mapping of its own, which goes back when it is freed; afterwards bands share a heap.

    Weights are read, converted and freed: in a heap, later copies don't fit into the gaps. Only glibc has such a heap.
    """
    process_setup.set_heap(WEIGHT_BYTES, WEIGHT_BYTES)
    try:
        yield
    finally:
        # Bands come and go all the time: growing the heap again took a tenth of an image's time. Slabs are larger than
        # bands: they get mappings of their own, which go back when they are freed.
        process_setup.set_heap(32 << 20, 96 << 20)


class Relief:
    """Gives freed memory back to the system whenever the process holds nearly its planned peak.

    Below that, freed memory is kept, because mapping it again takes time. How much is kept depends on the timing of
    threads: without this, one run of a command may hold a tenth more than the run before.
    """

    def __init__(self, planned_bytes: int) -> None:
        self._limit_bytes = NEARLY * planned_bytes
        self._process = psutil.Process()

    def __call__(self) -> None:
        if self._process.memory_info().rss > self._limit_bytes:
            release_freed()


def release_freed() -> None:
    """Gives freed memory back to the operating system.

    glibc keeps the gaps between live allocations; over the phases of an image they add up to hundreds of megabytes.
    Other systems and devices need no help.
    """
    if trim := getattr(process_setup.libc(), "malloc_trim", None):
        trim(0)
