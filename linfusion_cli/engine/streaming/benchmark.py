"""Measures, in about a second, how fast this machine runs the operations of a render."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.dtypes import DTYPES, for_sums
from linfusion_cli.engine.memory.slabs import FileSlab
from linfusion_cli.engine.streaming.convolutions import Convolved
from linfusion_cli.engine.streaming.group_norm import Moments
from linfusion_cli.engine.streaming.row_source import Held, Mapped, Parked, normalised, park
from linfusion_cli.geometry import Band
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import Machine
from linfusion_cli.system.speed import Speed, bounded

CHANNELS, HEIGHT, WIDTH, BAND = 64, 256, 256, 32
REPEATS = 5
QUIET = 0.85  # of the processor time must have been ours, for the clock to be believed
FILE_BYTES = 64 << 20
Clock = Callable[[], float]


@torch.inference_mode()
def measure_speed(machine: Machine, dtype_name: str, scratch: Path) -> Speed:
    """The best of a few runs of a convolution in bands, of a norm with its statistics, and of a scratch file.

    On a CPU beside other programs, the processor time of one thread, times the threads, takes the place of the clock.
    Raises OutputError if the scratch folder can't hold FILE_BYTES.
    """
    device, dtype = torch.device(machine.device), DTYPES[dtype_name]
    image = torch.randn(1, CHANNELS, HEIGHT, WIDTH, dtype=dtype, device=device)
    normed, conv = _normed(image), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(device, dtype)

    def runs(clock: Clock) -> tuple[float, float, float]:
        convolved = Convolved.same(normed, conv)
        pointwise, lines = (_sweep_seconds(normed, rows, clock) for rows in (BAND, 1))
        return _sweep_seconds(convolved, BAND, clock), pointwise, lines

    convolved, pointwise, lines = _quiet(runs) if device.type == "cpu" else runs(time.perf_counter)
    return replace(
        machine.speed(dtype_name),
        **bounded(
            macs_per_second=9 * CHANNELS * image.numel() / max(convolved - pointwise, 1e-6),
            values_per_second=image.numel() / pointwise,
            call_seconds=max(lines - pointwise, 1e-6) / (HEIGHT - HEIGHT / BAND),
            file_bytes_per_second=_file_speed(device, scratch),
        ),
        measured=True,
    )


def _quiet(runs: Callable[[Clock], tuple[float, float, float]]) -> tuple[float, float, float]:
    """The seconds of these runs on an idle CPU, or nearly: see measure_speed."""
    threads, before = torch.get_num_threads(), Contention.now()
    torch.set_num_threads(1)  # one of several would spin while it waits for those that other programs stop
    try:
        convolved, pointwise, lines = (seconds / threads for seconds in runs(time.thread_time))
    finally:
        torch.set_num_threads(threads)
    if before.quiet_seconds(1.0, Contention.now()) >= QUIET:
        before, seconds = Contention.now(), runs(time.perf_counter)
        if before.quiet_seconds(1.0, Contention.now()) >= QUIET:
            return seconds
    return convolved, pointwise, lines


def _normed(image: Tensor) -> Mapped:
    norm = nn.GroupNorm(8, CHANNELS).to(image.device, image.dtype)
    ones = torch.ones(CHANNELS, dtype=for_sums(image), device=image.device)
    return normalised(Held(Parked.of(image), Moments(ones, ones)), norm, silu=True)


def _sweep_seconds(source: Convolved | Mapped, band_rows: int, clock: Clock) -> float:
    device = source.rows(Band(0, 1)).device
    store = ActivationStore.unlimited(device)
    return _best(lambda: park(source, band_rows, store, None, lambda _: None), device, clock)


def _file_speed(device: torch.device, scratch: Path) -> float:
    """Bytes per second of writing and reading a file, which the operating system keeps in RAM while that is free."""
    shape = (FILE_BYTES >> 20, 1 << 10, 1 << 10)
    slab = FileSlab.create(scratch, shape, torch.uint8, pinned=device.type == "cuda")
    rows, whole = torch.zeros(shape, dtype=torch.uint8), Band(0, shape[0])

    def there_and_back() -> None:
        slab.write(whole, rows)
        slab.read(whole)

    seconds = _best(there_and_back, device, time.perf_counter)
    slab.file.close()
    return 2 * FILE_BYTES / seconds


def _best(function: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Seconds of the fastest run; the first one does not count."""
    seconds: list[float] = []
    for _ in range(REPEATS + 1):
        started = clock()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(clock() - started)
    return min(seconds[1:])
