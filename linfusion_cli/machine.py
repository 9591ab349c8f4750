"""What is here: device, memory (container limits too), cores; each finding with its reason."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from linfusion_cli.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the picture will be computed.

    device:       "cpu", "cuda", "cuda:N" or "mps"
    total_bytes:  memory of that device (for the CPU: of the machine or of its container, whichever is less)
    free_bytes:   what is free of it now
    """

    device: str
    device_name: str
    reason: str
    total_bytes: int
    free_bytes: int
    cores: int

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]


def find_machine(device: str = "auto") -> Machine:
    """Finds the device asked for ("auto", "cpu", "cuda", "cuda:N", "mps"); UsageError if it is not there."""
    if device == "cpu":
        return _cpu("asked for")
    if device == "auto" and not _may_have_accelerator():
        return _cpu("no GPU found")
    return _accelerator(device)


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _may_have_accelerator() -> bool:
    """A cheap look, so that machines without a GPU need no torch for a plan."""
    return sys.platform == "darwin" or any(Path(path).exists() for path in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")) or os.name == "nt"


def _cpu(reason: str) -> Machine:
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in _container_limits():
        total, free = min(total, limit), min(free, max(limit - used, 0))
    return Machine(device="cpu", device_name=f"CPU, {usable_cores()} cores", reason=reason, total_bytes=total, free_bytes=free, cores=usable_cores())


def _container_limits() -> Iterator[tuple[int, int]]:
    """(limit, used) in bytes of the control group, version 2 and 1; psutil does not know of them."""
    root = Path("/sys/fs/cgroup")
    for limit, used in (("memory.max", "memory.current"), ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes")):
        try:
            yield int((root / limit).read_text()), int((root / used).read_text())
        except (OSError, ValueError):  # no such group, or "max"
            continue


def _accelerator(device: str) -> Machine:
    import torch

    if device in ("auto", "mps") and torch.backends.mps.is_available():
        memory = psutil.virtual_memory()
        return Machine(device="mps", device_name="Apple GPU", reason="found", total_bytes=memory.total, free_bytes=memory.available, cores=usable_cores())
    if device == "mps" or not torch.cuda.is_available():
        if device == "auto":
            return _cpu("no GPU that torch can use")
        raise UsageError(f"--device {device}: not found by torch {torch.__version__} on this machine. Try --device cpu")
    index = int(device.partition(":")[2] or 0)
    if index >= torch.cuda.device_count():
        raise UsageError(f"--device {device}: there are {torch.cuda.device_count()}. Nearest: cuda:{torch.cuda.device_count() - 1}")
    free, total = torch.cuda.mem_get_info(index)
    name = torch.cuda.get_device_name(index)
    return Machine(
        device=f"cuda:{index}", device_name=name, reason="found" if device == "auto" else "asked for", total_bytes=total, free_bytes=free, cores=usable_cores()
    )
