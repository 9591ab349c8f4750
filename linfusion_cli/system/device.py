"""The machine: device, memory (with the limits of containers), cores and speed."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import psutil

from linfusion_cli.system.cgroups import memory_limits
from linfusion_cli.system.contention import slowdown
from linfusion_cli.system.process_limits import memory_limit
from linfusion_cli.system.runtime_memory import imported_bytes
from linfusion_cli.system.speed import DAMAGED, FLOAT32_SHARE, FORMATS, Speed, known_speeds, remember_speed
from linfusion_cli.system.work import Timed, learned

UNUSED_GPU = "a GPU is here, but torch can't use it ({:.150}): the CPU computes. `linfusion doctor` says what to do"
LIMITED = "{} limits this process: its plan takes at most {:.2f} GB"
LEARN_SECONDS = 2.0  # shorter renders say little about the speed


@dataclass(frozen=True, slots=True, kw_only=True)
class RankDevice:
    """What one of several ranks computes on.

    name:          of the card or processor; part: of its cores, 0 to 1, where ranks share them
    measured_macs: multiply-adds a second by number format, as measured; those that were not are absent
    expected_macs: the same of every number format, by what is known of the kind of device
    """

    name: str
    cores: int
    part: float
    measured_macs: Mapping[str, float]
    expected_macs: Mapping[str, float]

    @staticmethod
    def of(machine: Machine, ranks: int = 1) -> RankDevice:
        """ranks: that share the machine's cores; 1 for each card, which takes one."""
        part = 1 / ranks
        return RankDevice(
            name=machine.device_name,
            cores=machine.cores if machine.kind == "cpu" else 0,
            part=part,
            measured_macs={
                dtype: speed.macs_per_second * part for dtype, speed in machine.speeds.items() if speed.measured
            },
            expected_macs={dtype: machine.assumed_speed(dtype).macs_per_second * part for dtype in FORMATS},
        )

    @property
    def kind_and_part(self) -> tuple[str, int, float]:
        """Devices for which this is equal are equally fast."""
        return self.name, self.cores, self.part


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
    limit_bytes: what no plan may exceed, because of a limit on the memory of this process; 0 without one
    limited_by:  the limit, for messages
    notes:       what the user should know of it
    bfloat16:    the device computes in it, without emulation
    half_macs:   multiply-adds a second that a GPU is expected to do in half precision; 0: of its kind
    fused_attention: the number formats in which torch's softmax attention keeps no scores there
    rank_devices: of all ranks, in their order, where the machine is that of one of several
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
    limit_bytes: int = 0
    limited_by: str = ""
    notes: tuple[str, ...] = ()
    bfloat16: bool = True
    half_macs: float = 0.0
    fused_attention: tuple[str, ...] = FORMATS
    rank_devices: tuple[RankDevice, ...] = ()

    @property
    def kind(self) -> str:
        """The device without its number."""
        return self.device.partition(":")[0]

    @property
    def unified(self) -> bool:
        """Whether the device's memory is the RAM of the process: a CPU's, and that of Apple's GPUs."""
        return self.kind != "cuda"

    def speed(self, dtype: str) -> Speed:
        """The measured speed in a number format, else the assumed one of the kind of device."""
        return self.speeds.get(dtype) or self.assumed_speed(dtype)

    def assumed_speed(self, dtype: str) -> Speed:
        """The speed of the kind of device in a number format."""
        return Speed.assumed(self.kind, self.cores, self.half_macs * (FLOAT32_SHARE if dtype == "float32" else 1))


def find_machine(device: str = "auto") -> Machine:
    """Finds a device ("auto", "cpu", "cuda", "cuda:N" or "mps"). Raises UsageError if it is not there."""
    if device == "cpu":
        return _cpu("asked for")
    if device == "auto" and not may_have_accelerator():
        return _cpu("no GPU found")
    from linfusion_cli.system.accelerator import find_accelerator  # plans for a CPU need nothing of it

    gpu, why = find_accelerator(device)
    if gpu is None:
        return _cpu("no GPU that torch can use", *([UNUSED_GPU.format(why)] if why else []))
    ram = gpu.free_bytes if gpu.device == "mps" else ram_bytes()[1]
    found = _machine(
        gpu.device,
        gpu.name,
        why or ("found" if device == "auto" else "asked for"),
        gpu.total_bytes,
        gpu.free_bytes,
        ram,
    )
    return replace(found, bfloat16=gpu.bfloat16, half_macs=gpu.half_macs, fused_attention=gpu.fused_attention)


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


def _cpu(reason: str, *notes: str) -> Machine:
    total, free = ram_bytes()
    free = min(free + _own_bytes(), total)  # a plan's peak is that of the whole process
    found = _machine("cpu", f"CPU, {usable_cores()} cores", reason, total, free, free)
    return _limited(replace(found, notes=(*notes, *found.notes)))


def _limited(machine: Machine) -> Machine:
    """The CPU with what a limit on the memory of this process leaves of it."""
    limit = memory_limit(machine.cores)
    if limit is None or limit.room_bytes >= machine.free_bytes:
        return machine
    room = limit.room_bytes
    note = LIMITED.format(limit, room / 1e9)
    return replace(
        machine,
        total_bytes=min(machine.total_bytes, limit.bytes),
        free_bytes=room,
        ram_bytes=room,
        limit_bytes=max(room, 1),
        limited_by=str(limit),
        notes=(*machine.notes, note),
    )


def ram_bytes() -> tuple[int, int]:
    """All RAM and the free part of it, of the machine or of its container."""
    memory = psutil.virtual_memory()
    total, free = memory.total, memory.available
    for limit, used in memory_limits():
        total, free = min(total, limit), min(free, max(limit - used, 0))
    return total, free


def _own_bytes() -> int:
    """Memory that this process alone holds already: much, if a model is loaded."""
    held = psutil.Process().memory_info()
    return int(held.rss - getattr(held, "shared", 0))


def _machine(device: str, name: str, reason: str, total: int, free: int, ram: int) -> Machine:
    """A device with what is known of the system around it; total, free and ram in bytes."""
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


def learn_speed(machine: Machine, dtype: str, *, phases: Sequence[Timed], start_seconds: float) -> None:
    """Corrects a speed by the time that each phase of a render took."""
    if sum(phase.seconds for phase in phases) >= LEARN_SECONDS:
        found = learned(machine.speed(dtype), machine.assumed_speed(dtype), phases, start_seconds)
        remember_speed(machine.device_name, dtype, found)
