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
from linfusion_cli.system.device import Machine
from linfusion_cli.system.speed import Speed

CHANNELS, HEIGHT, WIDTH, BAND = 64, 256, 256, 32
REPEATS = 5
FILE_BYTES = 64 << 20


@torch.inference_mode()
def measure_speed(machine: Machine, dtype_name: str, scratch: Path) -> Speed:
    """The best of a few runs of a convolution in bands, of a norm with its statistics, and of a scratch file.

    Raises OutputError if the scratch folder can't hold FILE_BYTES.
    """
    device, dtype = torch.device(machine.device), DTYPES[dtype_name]
    image = torch.randn(1, CHANNELS, HEIGHT, WIDTH, dtype=dtype, device=device)
    normed, conv = _normed(image), nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1).to(device, dtype)
    pointwise = _sweep_seconds(normed, BAND)
    calls = _sweep_seconds(normed, 1) - pointwise
    convolved = _sweep_seconds(Convolved.same(normed, conv), BAND)
    macs = 9 * CHANNELS * image.numel()
    return replace(
        machine.speed(dtype_name),
        macs_per_second=macs / max(convolved - pointwise, 1e-6),
        values_per_second=image.numel() / pointwise,
        call_seconds=max(calls, 1e-6) / (HEIGHT - HEIGHT / BAND),
        file_bytes_per_second=_file_speed(device, scratch),
        measured=True,
    )


def _normed(image: Tensor) -> Mapped:
    norm = nn.GroupNorm(8, CHANNELS).to(image.device, image.dtype)
    ones = torch.ones(CHANNELS, dtype=for_sums(image), device=image.device)
    return normalised(Held(Parked.of(image), Moments(ones, ones)), norm, silu=True)


def _sweep_seconds(source: Convolved | Mapped, band_rows: int) -> float:
    device = source.rows(Band(0, 1)).device
    store = ActivationStore.unlimited(device)
    return _best(lambda: park(source, band_rows, store, None, lambda _: None), device)


def _file_speed(device: torch.device, scratch: Path) -> float:
    """Bytes per second of writing and reading a file, which the operating system keeps in RAM while that is free."""
    shape = (FILE_BYTES >> 20, 1 << 10, 1 << 10)
    slab = FileSlab.create(scratch, shape, torch.uint8, pinned=device.type == "cuda")
    rows, whole = torch.zeros(shape, dtype=torch.uint8), Band(0, shape[0])

    def there_and_back() -> None:
        slab.write(whole, rows)
        slab.read(whole)

    seconds = _best(there_and_back, device)
    slab.file.close()
    return 2 * FILE_BYTES / seconds


def _best(function: Callable[[], object], device: torch.device) -> float:
    """Seconds of the fastest run; the first one does not count."""
    seconds: list[float] = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        function()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:])
