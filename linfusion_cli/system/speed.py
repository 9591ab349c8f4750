"""How fast a device renders: assumed, measured, or learned from renders; stored in the user's cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from linfusion_cli.files import write_atomically
from linfusion_cli.json_files import read_json

LEARN_SHARE = 0.5  # of the way from the known speed to that of a render: the machine may have been busy either time
ASSUMED: dict[str, tuple[float, float]] = {"cuda": (60e12, 60e9), "mps": (3e12, 6e9)}  # multiply-adds, values a second
ASSUMED_PER_CORE = (30e9, 0.35e9)  # the same of a CPU


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a machine renders in one number format.

    macs_per_second:       multiply-adds of convolutions
    values_per_second:     activations through a norm, an activation function and a sum
    link_bytes_per_second: between RAM and an accelerator; file_bytes_per_second: of scratch files
    call_seconds:          what starting a layer on one band costs
    start_seconds:         until torch and diffusers are imported
    measured:              by a benchmark or a render, else assumed for the kind of device
    """

    macs_per_second: float
    values_per_second: float
    link_bytes_per_second: float
    file_bytes_per_second: float
    call_seconds: float
    start_seconds: float
    measured: bool

    @staticmethod
    def assumed(kind: str, cores: int) -> Speed:
        """The speed of a kind of device ("cpu", "cuda" or "mps") before any measurement. cores: of a CPU."""
        macs, values = (rate * cores for rate in ASSUMED_PER_CORE) if kind == "cpu" else ASSUMED[kind]
        return Speed(
            macs_per_second=macs,
            values_per_second=values,
            link_bytes_per_second=12e9,
            file_bytes_per_second=0.5e9,
            call_seconds=1e-3,
            start_seconds=6.0,
            measured=False,
        )

    def learned(self, factor: float, start_seconds: float) -> Speed:
        """The speed after a render that ran `factor` times as fast as this speed says, with such a start."""
        share = LEARN_SHARE if self.measured else 1.0
        factor, start = factor**share, self.start_seconds ** (1 - share) * start_seconds**share
        rates = ("macs_per_second", "values_per_second", "link_bytes_per_second", "file_bytes_per_second")
        faster = {name: getattr(self, name) * factor for name in rates}
        return replace(self, **faster, call_seconds=self.call_seconds / factor, start_seconds=start, measured=True)


def known_speeds(device_name: str) -> dict[str, Speed]:
    """The stored speeds of a device, by number format; {} without any."""
    try:
        found = {dtype: Speed(**numbers) for dtype, numbers in _stored_speeds()[device_name].items()}
    except (KeyError, TypeError, AttributeError):  # none yet, or from another version of this program
        return {}
    return {dtype: speed for dtype, speed in found.items() if _is_usable(speed)}


def _is_usable(speed: Speed) -> bool:
    """Whether every number is one that a machine can have; a damaged cache must not reach a plan."""
    numbers = [value for name, value in asdict(speed).items() if name != "measured"]
    plain = all(isinstance(value, int | float) and not isinstance(value, bool) for value in numbers)
    return plain and isinstance(speed.measured, bool) and all(1e-12 < value < 1e18 for value in numbers)


def remember_speed(device_name: str, dtype: str, speed: Speed) -> None:
    """Stores a speed for later plans; a cache that can't be written is ignored."""
    path, devices = _speeds_file(), _stored_speeds()
    own = {name: asdict(known) for name, known in {**known_speeds(device_name), dtype: speed}.items()}
    try:
        write_atomically(path, json.dumps({**devices, device_name: own}, indent=2))
    except OSError:
        return


def _stored_speeds() -> Any:
    """The file's content: device -> number format -> numbers; {} if it can't be read."""
    try:
        return read_json(_speeds_file())
    except (OSError, ValueError):
        return {}


def _speeds_file() -> Path:
    return platformdirs.user_cache_path("linfusion") / "speed.json"
