"""Keeps memory within its budget: the C library's heap small, and a GPU's allocator below a limit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import torch

from linfusion_cli.system import process_setup
from linfusion_cli.system.accelerator import CUDA_RUNTIME_BYTES

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


def limit_device(device: torch.device, budget_bytes: int, total_bytes: int) -> None:
    """Makes a GPU the current one, and its allocator refuse what would exceed the budget, of total_bytes in all.

    At the limit torch frees the blocks that it keeps, and only then reports that memory ran out. What CUDA itself takes
    is not the allocator's: the plan counts it in the budget.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
        allowed = max(0, budget_bytes - CUDA_RUNTIME_BYTES) / total_bytes
        torch.cuda.set_per_process_memory_fraction(min(allowed, 1.0), device)
    elif device.type == "mps":
        torch.mps.set_per_process_memory_fraction(min(budget_bytes / total_bytes, 1.0))


def release_freed() -> None:
    """Gives freed memory back to the operating system.

    glibc keeps the gaps between live allocations; over the phases of an image they add up to hundreds of megabytes.
    Other systems and devices need no help.
    """
    if trim := getattr(process_setup.libc(), "malloc_trim", None):
        trim(0)


def release_pinned() -> None:
    """Gives page-locked RAM that nothing lies in back to the system: else torch keeps every block that there was.

    Older versions of torch have no way to.
    """
    if release := getattr(torch.accelerator, "empty_host_cache", None):
        release()
