"""The meter: how long each phase takes, and how much memory the process and the device hold meanwhile."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import psutil
import torch

from linfusion_cli.engine.memory.allocator import release_freed, release_pinned
from linfusion_cli.events import MemorySampled, Notify, PhaseFinished, PhaseStarted, Progressed

INTERVAL_SECONDS = 0.02  # between samples
SAMPLE_SECONDS = 0.5  # between samples that are reported


class Meter:
    """Reports phases and samples to `notify`; a thread samples the memory while a phase runs."""

    def __init__(self, device: torch.device, notify: Notify) -> None:
        self._device, self._notify = device, notify
        self.notify = notify
        self._process = psutil.Process()

    @contextmanager
    def phase(self, name: str, stage: int, total: int, unit: str, done: int = 0, counted: int = 0) -> Iterator[Counter]:
        """Runs one phase; the counter that it yields reports progress.

        done:    steps or rows that an earlier run has done
        counted: what the counter reaches at the end, if not `total`: rows of all layers stand for rows of the image
        """
        self._notify(PhaseStarted(name=name, stage=stage, total=total, unit=unit, done=done))
        release_freed()
        if self._device.type == "cuda":
            release_pinned()
            torch.cuda.reset_peak_memory_stats(self._device)
        started, watch = time.monotonic(), _Watch(self._resident_bytes, self._device_bytes, self._notify)
        try:
            yield Counter(self._notify, total / counted if counted else 1)
        finally:
            peak = watch.stop()
            seconds = time.monotonic() - started
        # reserved, not only allocated: what the allocator keeps is not free for anybody else
        device_peak = torch.cuda.max_memory_reserved(self._device) if self._device.type == "cuda" else 0
        self._notify(
            PhaseFinished(name=name, stage=stage, seconds=seconds, peak_bytes=peak, device_peak_bytes=device_peak)
        )

    def _resident_bytes(self) -> int:
        return int(self._process.memory_info().rss)

    def _device_bytes(self) -> int:
        """What the allocator holds; asked for rarely, since the answer holds up the thread that starts kernels."""
        if self._device.type == "mps":
            return int(torch.mps.driver_allocated_memory())
        return torch.cuda.memory_reserved(self._device) if self._device.type == "cuda" else 0


class Counter:
    """Counts the steps or rows of a phase."""

    def __init__(self, notify: Notify, share: float = 1) -> None:
        """share: how much of the phase's unit one count is."""
        self._notify, self._done, self._share = notify, 0, share

    def reach(self, done: int) -> None:
        """So many are done."""
        self._done = done
        self._notify(Progressed(done=int(done * self._share + 1e-6)))

    def add(self, more: int) -> None:
        """So many more are done."""
        self.reach(self._done + more)


class _Watch:
    """A thread that keeps the most resident bytes, and reports them and the device's about twice a second."""

    def __init__(self, resident: Callable[[], int], on_device: Callable[[], int], notify: Notify) -> None:
        self._resident, self._on_device, self._notify = resident, on_device, notify
        self._peak, self._over = 0, threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory-meter", daemon=True)
        self._thread.start()

    def stop(self) -> int:
        self._over.set()
        self._thread.join()
        return self._peak

    def _run(self) -> None:
        told = 0.0
        while True:
            over = self._over.is_set()
            resident = self._resident()
            self._peak = max(self._peak, resident)
            if time.monotonic() - told >= SAMPLE_SECONDS:
                told = time.monotonic()
                self._notify(MemorySampled(resident_bytes=resident, device_bytes=self._on_device()))
            if over:
                return
            self._over.wait(INTERVAL_SECONDS)


def process_peak_bytes() -> int:
    """The most memory that this process ever held, as the operating system says."""
    try:
        import resource
    except ImportError:  # Windows
        held = psutil.Process().memory_info()
        return int(getattr(held, "peak_wset", held.rss))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else peak * 1024)
