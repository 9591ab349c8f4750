"""Measures, in about a second, how fast this machine runs the operations of a render."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from linfusion_cli.engine.loading.safetensors_loader import own_all
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.async_copies import CudaStreams, Streams
from linfusion_cli.engine.memory.dtypes import DTYPES, for_sums
from linfusion_cli.engine.memory.slabs import FileSlab
from linfusion_cli.engine.streaming.convolutions import Convolved
from linfusion_cli.engine.streaming.group_norm import Moments
from linfusion_cli.engine.streaming.row_source import Held, Mapped, Parked, normalised, park
from linfusion_cli.geometry import Band, bands
from linfusion_cli.system.contention import Contention
from linfusion_cli.system.device import Machine
from linfusion_cli.system.speed import Speed, bounded

REPEATS = 5
QUIET = 0.85  # of the processor time must have been ours, for the clock to be believed
FILE_BYTES, LINK_BYTES = 64 << 20, 128 << 20
PIECE_ROWS = 2  # MiB of the file at a time: less than a program runs before another one gets the processor
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Shape:
    """The activation that is measured, (1, channels, height, width), in bands of so many rows."""

    channels: int
    height: int
    width: int
    band_rows: int

    @property
    def values(self) -> int:
        return self.channels * self.height * self.width


# Of a GPU the first level of SD's UNets at 4096x4096: in less, it would only be seen how fast kernels are started.
SHAPES = {"cpu": Shape(64, 256, 256, 32), "cuda": Shape(320, 512, 512, 256), "mps": Shape(320, 256, 256, 128)}


@torch.inference_mode()
def measure_speed(machine: Machine, dtype_name: str, scratch: Path) -> Speed:
    """The best of a few runs of a convolution in bands, a norm with its statistics, copies to a card, a scratch file.

    On a CPU beside other programs, the processor time of one thread, times the threads, takes the place of the clock.
    Raises OutputError if the scratch folder can't hold FILE_BYTES.
    """
    device, dtype, shape = torch.device(machine.device), DTYPES[dtype_name], SHAPES[machine.kind]
    image = torch.randn(1, shape.channels, shape.height, shape.width, dtype=dtype, device=device)
    normed, conv = _normed(image), nn.Conv2d(shape.channels, shape.channels, 3, padding=1).to(device, dtype)
    own_all(conv, device)

    def runs(clock: Clock) -> tuple[float, float, float]:
        convolved = Convolved.same(normed, conv)
        pointwise, lines = (_sweep_seconds(normed, rows, clock) for rows in (shape.band_rows, 1))
        return _sweep_seconds(convolved, shape.band_rows, clock), pointwise, lines

    convolved, pointwise, lines = _quiet(runs) if device.type == "cpu" else runs(time.perf_counter)
    del image
    found = bounded(
        macs_per_second=9 * shape.channels * shape.values / max(convolved - pointwise, 1e-6),
        values_per_second=shape.values / pointwise,
        call_seconds=max(lines - pointwise, 1e-6) / (shape.height - shape.height / shape.band_rows),
        file_bytes_per_second=file_speed(device, scratch, time.perf_counter),
    )
    if device.type == "cuda":
        rows = torch.empty(LINK_BYTES, dtype=torch.uint8, pin_memory=True)
        found |= bounded(link_bytes_per_second=link_speed(CudaStreams.on(device), rows, time.perf_counter))
    return replace(machine.speed(dtype_name), **found, measured=True, rendered=False)


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
    norm = nn.GroupNorm(8, image.shape[1]).to(image.device, image.dtype)
    ones = torch.ones(image.shape[1], dtype=for_sums(image), device=image.device)
    return normalised(Held(Parked.of(image), Moments(ones, ones)), norm, silu=True)


def _sweep_seconds(source: Convolved | Mapped, band_rows: int, clock: Clock) -> float:
    device = source.rows(Band(0, 1)).device
    store = ActivationStore.unlimited(device)
    return _best(lambda: park(source, band_rows, store, None, lambda _: None), device, clock)


def link_speed(streams: Streams, rows: Tensor, clock: Clock) -> float:
    """Bytes a second between RAM and a device, of copies there and back on the streams of the engine's own copies.

    rows: page-locked RAM, as slabs in RAM are
    """
    on_device, event = streams.upload(rows)
    streams.finish(event)

    def seconds(copy: Callable[[], Any]) -> float:
        taken = []
        for _ in range(REPEATS):
            started = clock()
            streams.finish(copy())
            taken.append(clock() - started)
        return min(taken)

    there, back = seconds(lambda: streams.upload(rows)[1]), seconds(lambda: streams.download(on_device, rows))
    return 2 * rows.nbytes / max(there + back, 1e-9)


def file_speed(device: torch.device, scratch: Path, clock: Clock) -> float:
    """Bytes per second of writing and reading a file, which the operating system keeps in RAM while that is free.

    The file is written and read in pieces of a millisecond or so, REPEATS times over, and the fastest run of each piece
    counts: processor time would leave out the disk, and a longer run by the clock the waiting for other programs.
    """
    shape = (FILE_BYTES >> 20, 1 << 10, 1 << 10)
    slab = FileSlab.create(scratch, shape, torch.uint8, pinned=device.type == "cuda")
    rows = torch.zeros(shape, dtype=torch.uint8)
    pieces = list(bands(shape[0], PIECE_ROWS))
    seconds = [[math.inf, math.inf] for _ in pieces]
    for repeat in range(REPEATS + 1):
        for piece, fastest in zip(pieces, seconds, strict=True):
            started = clock()
            slab.write(piece, rows[piece.rows])
            written = clock()
            slab.read(piece)
            if repeat:  # the first one makes the file
                fastest[:] = min(fastest[0], written - started), min(fastest[1], clock() - written)
    slab.file.close()
    return 2 * FILE_BYTES / max(sum(map(sum, seconds)), 1e-9)


def _best(function: Callable[[], object], device: torch.device, clock: Clock) -> float:
    """Seconds of the fastest run; the first one does not count."""
    seconds: list[float] = []
    for _ in range(REPEATS + 1):
        started = clock()
        function()
        if device.type != "cpu":
            torch.accelerator.synchronize(device)
        seconds.append(clock() - started)
    return min(seconds[1:])
