"""How fast a device renders: assumed, measured, or learned from renders; stored in the user's cache."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

from linfusion_cli.files import write_atomically
from linfusion_cli.json_files import read_json

LIMIT_BYTES = 1 << 20  # of the file; a device takes half a kilobyte
ASSUMED: dict[str, tuple[float, float]] = {"cuda": (60e12, 60e9), "mps": (3e12, 6e9)}  # multiply-adds, values a second
FLOAT32_SHARE = 0.25  # of a GPU's speed in half precision
ASSUMED_PER_CORE = (30e9, 0.35e9)  # the same of a CPU
# What a machine can have, from a busy single-board computer to a cluster's node; everything else is damage.
BOUNDS: dict[str, tuple[float, float]] = {
    "macs_per_second": (1e6, 1e16),
    "values_per_second": (1e4, 1e14),
    "link_bytes_per_second": (1e6, 1e13),
    "file_bytes_per_second": (1e4, 1e12),
    "call_seconds": (1e-9, 10.0),
    "start_seconds": (1e-3, 600.0),
}
SLOW_DISK = 8.0  # times slower than assumed, a disk counts as slow: more than noise makes of a usual one
SLOW_DISK_TAKEN = 16.0  # times slower, it is then taken for
FORMATS = ("float32", "float16", "bfloat16")  # of numbers, that networks may run in
DAMAGED = "the stored speeds of this machine are damaged and not used; times are guesses until they are measured again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a machine renders in one number format.

    macs_per_second:       multiply-adds of convolutions
    values_per_second:     activations through a norm, an activation function and a sum
    link_bytes_per_second: between RAM and an accelerator; file_bytes_per_second: of scratch files
    call_seconds:          what starting a layer on one band costs
    start_seconds:         until torch and diffusers are imported
    measured:              by a benchmark or a render, else assumed for the kind of device; rendered: by a render
    """

    macs_per_second: float
    values_per_second: float
    link_bytes_per_second: float
    file_bytes_per_second: float
    call_seconds: float
    start_seconds: float
    measured: bool
    rendered: bool = False

    @staticmethod
    def assumed(kind: str, cores: int, known_macs: float = 0.0) -> Speed:
        """The speed of a kind of device ("cpu", "cuda" or "mps") before any measurement.

        cores: of a CPU; known_macs: multiply-adds a second, if more is known than the kind
        """
        macs, values = (rate * cores for rate in ASSUMED_PER_CORE) if kind == "cpu" else ASSUMED[kind]
        return Speed(
            macs_per_second=known_macs or macs,
            values_per_second=values,
            link_bytes_per_second=12e9,
            file_bytes_per_second=0.5e9,
            call_seconds=1e-3 if kind == "cpu" else 1e-4,
            start_seconds=6.0,
            measured=False,
        )

    def for_choices(self, kind: str, cores: int) -> Speed:
        """The speed by which a plan chooses bands and what waits where: that of the kind of device, not a measured one.

        A measurement beside other programs is off by factors, and the same command must make the same plan. Of what was
        measured only a scratch disk that is slow by far counts, as one class.
        """
        usual = Speed.assumed(kind, cores)
        slow = self.file_bytes_per_second < usual.file_bytes_per_second / SLOW_DISK
        return replace(usual, file_bytes_per_second=usual.file_bytes_per_second / SLOW_DISK_TAKEN) if slow else usual


@dataclass(frozen=True, slots=True)
class KnownSpeeds:
    """The stored speeds of a device, by number format. damaged: something is stored that can't be used."""

    speeds: dict[str, Speed]
    damaged: bool


def known_speeds(device_name: str) -> KnownSpeeds:
    """The stored speeds of a device; none without a file, or with one that can't be used."""
    try:
        devices = read_json(_speeds_file(), LIMIT_BYTES)
    except FileNotFoundError:
        return KnownSpeeds({}, damaged=False)
    except (OSError, ValueError):
        return KnownSpeeds({}, damaged=_speeds_file().parent.is_dir())  # HOME may be a file: then none are stored
    stored = devices.get(device_name, {})
    if not isinstance(stored, dict):
        return KnownSpeeds({}, damaged=True)
    found = {dtype: speed for dtype, numbers in stored.items() if (speed := _usable(numbers))}
    return KnownSpeeds(found, damaged=len(found) < len(stored))


def _usable(numbers: object) -> Speed | None:
    """The speed that these numbers are; None for anything that no machine has: it must not reach a plan."""
    if not isinstance(numbers, dict) or numbers.keys() | {"rendered"} != {*BOUNDS, "measured", "rendered"}:
        return None
    plain = all(isinstance(numbers[name], int | float) and not isinstance(numbers[name], bool) for name in BOUNDS)
    if not plain or not all(isinstance(numbers.get(name, False), bool) for name in ("measured", "rendered")):
        return None
    inside = all(low <= numbers[name] <= high for name, (low, high) in BOUNDS.items())
    return Speed(**numbers) if inside else None


def bounded(**rates: float) -> dict[str, Any]:
    """The rates within BOUNDS."""
    return {name: min(max(value, BOUNDS[name][0]), BOUNDS[name][1]) for name, value in rates.items()}


def remember_speed(device_name: str, dtype: str, speed: Speed) -> None:
    """Stores a speed for later plans; a cache that can't be written is ignored."""
    path, devices = _speeds_file(), _stored_speeds()
    own = {name: asdict(known) for name, known in {**known_speeds(device_name).speeds, dtype: speed}.items()}
    try:
        write_atomically(path, json.dumps({**devices, device_name: own}, indent=2))
    except OSError:
        return


def _stored_speeds() -> Any:
    """The file's content: device -> number format -> numbers; {} if it can't be read."""
    try:
        return read_json(_speeds_file(), LIMIT_BYTES)
    except (OSError, ValueError):
        return {}


def _speeds_file() -> Path:
    return platformdirs.user_cache_path("linfusion") / "speed.json"
