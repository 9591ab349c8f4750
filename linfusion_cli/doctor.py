"""What is here and what would run: machine, versions, space, weights; each finding with what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from linfusion_cli.errors import LinfusionError, OutOfMemoryError
from linfusion_cli.job import Request, resolve
from linfusion_cli.machine import Machine, find_machine
from linfusion_cli.plan import make_plan
from linfusion_cli.preset import load_preset, preset_files
from linfusion_cli.wanted import needs_of
from linfusion_cli.weights.places import cache_folder

State = Literal["ok", "missing", "bad"]
NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface-hub", "numpy", "pillow")
OPTIONAL = {"peft": ("--lora", "lora"), "opencv-python-headless": ("--control-preprocess canny", "canny"), "isal": ("faster PNG files", "fast-png")}
LITTLE_MEMORY_BYTES, LITTLE_DISK_BYTES = 2e9, 5e9


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at: what was found, and what to type to mend it ("" = nothing to mend)."""

    about: str
    state: State
    found: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """Everything, in the order in which it matters; finds nothing fatal and downloads nothing."""
    yield Finding(about="system", state="ok", found=f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}")
    yield from _packages()
    machine = find_machine()
    yield from _device(machine)
    yield _memory()
    yield from _disks()
    yield _network()
    for name in preset_files():
        yield _preset(name, machine)


def _packages() -> Iterator[Finding]:
    for name in NEEDED:
        found = _version(name)
        fix = "" if found else f"pip install {name}"
        yield Finding(about=name, state="ok" if found else "bad", found=found or "not installed", fix=fix)
    for name, (use, extra) in OPTIONAL.items():
        found = _version(name)
        fix = "" if found else f'pip install "linfusion-cli[{extra}]"'
        yield Finding(about=name, state="ok" if found else "missing", found=found or f"not installed: only for {use}", fix=fix)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _device(machine: Machine) -> Iterator[Finding]:
    found = f"{machine.device}: {machine.device_name} ({machine.reason}), {machine.free_bytes / 1e9:.1f} of {machine.total_bytes / 1e9:.1f} GB free"
    yield Finding(about="device", state="ok", found=found)
    formats = "float32 (the default), bfloat16, float16 (slow)" if machine.kind == "cpu" else "float16, bfloat16 where the chip knows it, float32"
    yield Finding(about="number formats", state="ok", found=formats)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    little = memory.available < LITTLE_MEMORY_BYTES
    fix = "close other programs, or give a smaller --size" if little else ""
    return Finding(about="memory", state="bad" if little else "ok", found=f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free", fix=fix)


def _disks() -> Iterator[Finding]:
    for about, folder, fix in (
        ("disk for weights", cache_folder(), "set HF_HOME to a folder on a larger disk"),
        ("disk here", Path(), "use -o on another disk"),
    ):
        there = folder.absolute()
        while not there.exists():
            there = there.parent
        free = shutil.disk_usage(there).free
        little = free < LITTLE_DISK_BYTES
        writable = os.access(there, os.W_OK)
        found = f"{free / 1e9:.1f} GB free in {folder.absolute()}" + ("" if writable else ", which can't be written")
        yield Finding(about=about, state="bad" if little or not writable else "ok", found=found, fix=fix if little or not writable else "")


def _network() -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    token = "an access token is set" if os.environ.get("HF_TOKEN") else "no HF_TOKEN in the environment (only gated repositories want one)"
    site = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if offline:
        return Finding(about="hub", state="missing", found="HF_HUB_OFFLINE is set: nothing can be fetched", fix="unset HF_HUB_OFFLINE")
    return Finding(about="hub", state="ok", found=f"{site}, {token}; not contacted")


def _preset(name: str, machine: Machine) -> Finding:
    """Whether a preset would run: its weights, then its memory."""
    about = f"preset {name}"
    try:
        lacking = [need for need in needs_of(load_preset(name).settings) if need.here() is None]
        if lacking:
            places = ", ".join(f"{need.kind} ({need.places[0]})" for need in lacking)
            return Finding(about=about, state="missing", found=f"not on this machine: {places}", fix=f"linfusion fetch {name}")
        plan = make_plan(resolve(Request(prompt="doctor", preset=name, seed=0)), machine)
    except OutOfMemoryError as error:
        return Finding(about=about, state="bad", found="the weights are here, the memory is too small", fix=str(error).rpartition("Nearest: ")[2])
    except LinfusionError as error:
        return Finding(about=about, state="bad", found=str(error), fix=f"linfusion presets check {name}")
    found = f"runs: {plan.job.size} in {plan.dtype}, about {plan.peak_bytes / 1e9:.1f} GB of memory and {max(1, round(plan.seconds / 60))} min"
    return Finding(about=about, state="ok", found=found)
