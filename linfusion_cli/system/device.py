"""The machine: device, memory (with the limits of containers), cores and speed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from linfusion_cli.errors import UsageError, option
from linfusion_cli.system.cgroups import memory_limits
from linfusion_cli.system.contention import slowdown
from linfusion_cli.system.runtime_memory import imported_bytes
from linfusion_cli.system.speed import DAMAGED, Speed, known_speeds, remember_speed

LEARN_SECONDS = 2.0  # shorter renders say little about the speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the image will be computed.

    device:      "cpu", "cuda", "cuda:N" or "mps"; reason: why it was chosen
    total_bytes: memory of that device (for the CPU: of the machine or of its container, whichever is less)
    free_bytes:  free memory of the device now
    ram_bytes:   free RAM; for the CPU the same as free_bytes
    speeds:      the measured ones, by number format: a CPU may be thirty times slower in one than in another
    slowdown:    how many times as long work takes now as on an idle machine, from 1
    imported_bytes: what a process holds after the import of torch and diffusers, as measured here; 0 before
    notes:       what the user should know of it
    """

    device: str
    device_name: str
    reason: str
    total_bytes: int
    free_bytes: int
    cores: int
    ram_bytes: int
    speeds: Mapping[str, Speed] = field(default_factory=dict)
    slowdown: float = 1.0
    imported_bytes: int = 0
    notes: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]

    def speed(self, dtype: str) -> Speed:
        """The measured speed in a number format, else the assumed one of the kind of device."""
        return self.speeds.get(dtype) or Speed.assumed(self.kind, self.cores)


def find_machine(device: str = "auto") -> Machine:
    """Finds a device ("auto", "cpu", "cuda", "cuda:N" or "mps"). Raises UsageError if it is not there."""
    if device == "cpu":
        return _cpu("asked for")
    if device == "auto" and not may_have_accelerator():
        return _cpu("no GPU found")
    return _accelerator(device)


def usable_cores() -> int:
    """The number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def may_have_accelerator() -> bool:
    """A cheap check, so that machines without a GPU need no torch for a plan."""
    return (
        sys.platform == "darwin"
        or any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg"))
        or os.name == "nt"
    )


def _cpu(reason: str) -> Machine:
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in memory_limits():
        total, free = min(total, limit), min(free, max(limit - used, 0))
    free = min(free + _own_bytes(), total)  # a plan's peak is that of the whole process
    return _machine("cpu", f"CPU, {usable_cores()} cores", reason, total, free, free)


def _own_bytes() -> int:
    """Memory that this process alone holds already: much, if a model is loaded."""
    held = psutil.Process().memory_info()
    return int(held.rss - getattr(held, "shared", 0))


def _machine(device: str, name: str, reason: str, total: int, free: int, ram: int) -> Machine:
    known = known_speeds(name)
    return Machine(
        device=device,
        device_name=name,
        reason=reason,
        total_bytes=total,
        free_bytes=free,
        cores=usable_cores(),
        ram_bytes=ram,
        speeds=known.speeds,
        slowdown=slowdown(usable_cores()) if device == "cpu" else 1.0,
        imported_bytes=imported_bytes(),
        notes=(DAMAGED,) if known.damaged else (),
    )


def learn_speed(
    machine: Machine, dtype: str, *, planned_seconds: float, taken_seconds: float, start_seconds: float
) -> None:
    """Corrects a speed by the time that a render took against its plan."""
    if min(planned_seconds, taken_seconds) >= LEARN_SECONDS:
        learned = machine.speed(dtype).learned(planned_seconds / taken_seconds, start_seconds)
        remember_speed(machine.device_name, dtype, learned)


def _accelerator(device: str) -> Machine:
    import torch

    if device in ("auto", "mps") and torch.backends.mps.is_available():
        memory = psutil.virtual_memory()
        return _machine("mps", "Apple GPU", "found", memory.total, memory.available, memory.available)
    if device == "mps" or not torch.cuda.is_available():
        if device == "auto":
            return _cpu("no GPU that torch can use")
        raise UsageError(
            f"{device}: not found by torch {torch.__version__} on this machine. Try ",
            option("device", "cpu"),
            parameter="device",
        )
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(
            f"{device}: there are {torch.cuda.device_count()}. Nearest: cuda:{torch.cuda.device_count() - 1}",
            parameter="device",
        )
    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    return _machine(
        f"cuda:{index}",
        name,
        "found" if device == "auto" else "asked for",
        total,
        free,
        psutil.virtual_memory().available,
    )
