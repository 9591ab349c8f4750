"""How fast a device is at what a render does: assumed, measured, or learned from renders; kept in the user's cache."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import platformdirs

LEARN_SHARE = (
    0.5  # of the way to what a render took, from what was measured before: the machine may have been busy either time
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Speed:
    """How fast a machine is at what a render does in one number format: known from a measurement or a render, or assumed of its kind.

    values_per_second: activations through a norm, an activation and a sum; link: between RAM and an accelerator;
    call_seconds: what starting a layer on one band costs; start_seconds: until torch and diffusers are imported
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
        """Before any measurement."""
        macs, values = {"cpu": (30e9 * cores, 0.35e9 * cores), "cuda": (60e12, 60e9), "mps": (3e12, 6e9)}[kind]
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
        """What is known once a render ran so many times as fast as this says (all of it alike), after such a start."""
        share = LEARN_SHARE if self.measured else 1.0
        factor, start = factor**share, self.start_seconds ** (1 - share) * start_seconds**share
        rates = ("macs_per_second", "values_per_second", "link_bytes_per_second", "file_bytes_per_second")
        faster = {name: getattr(self, name) * factor for name in rates}
        return replace(self, **faster, call_seconds=self.call_seconds / factor, start_seconds=start, measured=True)


def known_speeds(device_name: str) -> dict[str, Speed]:
    """What was measured of this device before, by number format."""
    try:
        return {dtype: Speed(**numbers) for dtype, numbers in _stored_speeds()[device_name].items()}
    except (KeyError, TypeError, AttributeError):  # none yet, or of another version of this program
        return {}


def remember_speed(device_name: str, dtype: str, speed: Speed) -> None:
    """Keeps a measurement for later plans; a cache that can't be written is no reason to stop."""
    path, devices = _speeds_file(), _stored_speeds()
    own = {name: asdict(known) for name, known in {**known_speeds(device_name), dtype: speed}.items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new = path.with_suffix(f".{os.getpid()}.part")
        new.write_text(json.dumps({**devices, device_name: own}, indent=2))
        new.replace(path)
    except OSError:
        return


def _stored_speeds() -> Any:
    """What the file holds: device -> number format -> numbers; nothing where it can't be read."""
    try:
        return json.loads(_speeds_file().read_text())
    except (OSError, ValueError):
        return {}


def _speeds_file() -> Path:
    return platformdirs.user_cache_path("linfusion") / "speed.json"
