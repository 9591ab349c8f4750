"""Keeps the C library's heap small: weights in mappings of their own, freed memory given back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from linfusion_cli.system import process_setup

NEARLY = 0.9  # of the planned peak; docs/log.md
WEIGHT_BYTES = 1 << 20  # smaller ones do not matter


@contextmanager
def large_apart() -> Iterator[None]:
    """Every weight gets memory of its own inside, which goes back when it is freed; afterwards the heap is one for bands.

    Weights are read, changed in format and layout, and let go: in a heap the copies don't fit into the gaps that were left.
    Only glibc has such a heap.
    """
    process_setup.set_heap(WEIGHT_BYTES, WEIGHT_BYTES)
    try:
        yield
    finally:
        # Bands come and go all the time: a tenth of an image's time went into getting the top of the heap again. What
        # waits is larger than a band: it is mapped on its own and goes back when it is freed.
        process_setup.set_heap(32 << 20, 96 << 20)


class Relief:
    """Gives freed memory back whenever the process holds nearly what was planned for it.

    Below that it is kept, because getting it again takes time. How much is kept depends on how threads met, so without
    this the same command may need a tenth more than it did the last time.
    """

    def __init__(self, planned_bytes: int) -> None:
        self._limit_bytes = NEARLY * planned_bytes
        self._process = psutil.Process()

    def __call__(self) -> None:
        if self._process.memory_info().rss > self._limit_bytes:
            release_freed()


def release_freed() -> None:
    """Gives freed memory back to the operating system.

    glibc keeps what smaller pieces left between larger ones; over the phases of an image that adds up to hundreds of
    megabytes. Other systems and devices need no help.
    """
    if trim := getattr(process_setup.libc(), "malloc_trim", None):
        trim(0)
