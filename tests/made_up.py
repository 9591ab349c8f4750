"""Machines that are nowhere, and jobs for them."""

from pathlib import Path
from typing import Any

from linfusion_cli.config.job import Job
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.system.device import Machine


def machine(device: str, gigabytes: float, ram_gigabytes: float = 0) -> Machine:
    free = int(gigabytes * 1e9)
    return Machine(
        device=device,
        device_name="test",
        reason="test",
        total_bytes=free,
        free_bytes=free,
        cores=2,
        ram_bytes=int(ram_gigabytes * 1e9) or free,
    )


def job(size: str, preset: str = "landscape", **changes: Any) -> Job:
    return resolve(Request(prompt="a lake", preset=preset, size=size, seed=1, output=Path("x.png"), **changes))
