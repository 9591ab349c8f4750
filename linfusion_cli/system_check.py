"""What is here and what would run: machine, versions, space, weights; each finding with what to do about it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import psutil

from linfusion_cli.config.model_names import configured_folders, load_named
from linfusion_cli.config.preset_files import preset_files
from linfusion_cli.config.request import Request
from linfusion_cli.config.required_weights import requirements_of
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import LinfusionError, Message, Option, OutOfMemoryError, option
from linfusion_cli.files import free_bytes, nearest_folder, try_writing
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.cpu_features import has_bfloat16
from linfusion_cli.system.device import Machine, find_machine, may_have_accelerator
from linfusion_cli.system.gpu_advice import CLOSE_OTHERS, OTHER_BUILD, why_unused
from linfusion_cli.system.gpu_probe import Accelerators, Gpu, look_here
from linfusion_cli.system.speed import DAMAGED
from linfusion_cli.weights.locate import cache_folder

State = Literal["ok", "missing", "bad"]
NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "huggingface-hub", "numpy", "pillow")
OPTIONAL: dict[str, tuple[str | Option, str]] = {  # package -> what it is for, the extra that installs it
    "peft": (option("loras"), "lora"),
    "opencv-python-headless": (option("control_preprocess", "canny"), "canny"),
    "isal": ("faster PNG files", "fast-png"),
}
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
    yield Finding(
        about="system",
        state="ok",
        found=f"{platform.system()} {platform.release()}, {platform.machine()}, Python {platform.python_version()}",
    )
    yield from _packages()
    machine = find_machine() if _version("torch") else find_machine("cpu")
    yield from _device(machine)
    if _version("torch") and may_have_accelerator():
        yield from accelerator_findings(look_here())
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
        said = found or Message("not installed: only for ", use)
        yield Finding(about=name, state="ok" if found else "missing", found=said, fix=fix)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _device(machine: Machine) -> Iterator[Finding]:
    memory = f"{machine.free_bytes / 1e9:.1f} of {machine.total_bytes / 1e9:.1f} GB free"
    found = f"{machine.device}: {machine.device_name} ({machine.reason}), {memory}"
    yield Finding(about="device", state="ok", found=found)
    if DAMAGED in machine.notes:
        yield Finding(about="speed", state="missing", found=DAMAGED, fix=Message("linfusion plan ", option("measure")))
    if machine.kind == "cpu":
        yield Finding(about="number formats", state="ok", found=_cpu_formats(bfloat16=has_bfloat16()))


def _cpu_formats(*, bfloat16: bool | None) -> Message:
    """bfloat16: whether the processor computes in it, None where nothing tells."""
    if bfloat16:
        about = "bfloat16, in hardware here: about twice as fast and half the memory, slightly other images ("
        return Message(f"float32 (the default); {about}", option("dtype", "bfloat16"), "); float16, slow")
    slow = "bfloat16, slow without AVX512_BF16 or AMX" if bfloat16 is False else "bfloat16"
    return Message(f"float32 (the default); {slow}; float16, slow")


def accelerator_findings(seen: Accelerators) -> Iterator[Finding]:
    """torch's build and driver, then every GPU, then the GPU that is here and can't be used."""
    driver = f", driver {seen.driver}" if seen.driver else ""
    newest = f" for CUDA up to {seen.driver_cuda[0]}.{seen.driver_cuda[1]}" if seen.driver_cuda[0] else ""
    yield Finding(about="torch build", state="ok", found=f"torch {seen.torch_version} for {seen.build}{driver}{newest}")
    for gpu in seen.gpus:
        yield _gpu(gpu)
    if seen.present and not seen.gpus:
        yield _unused(seen)


def _gpu(gpu: Gpu) -> Finding:
    chip = f", compute capability {gpu.capability[0]}.{gpu.capability[1]}" if gpu.capability[0] else ""
    memory = f"{gpu.free_bytes / 1e9:.1f} of {gpu.total_bytes / 1e9:.1f} GB free"
    found = Message(f"{gpu.name}{chip}, {memory}; float16, bfloat16, float32")
    if not gpu.bfloat16:
        lacking = "float16, float32, no bfloat16 (which the sd21 presets take: give "
        found = Message(f"{gpu.name}{chip}, {memory}; {lacking}", option("dtype", "float32"), ")")
    if not gpu.kernels:
        return Finding(
            about=gpu.device,
            state="bad",
            found=Message(found, "; this torch has no code for the chip"),
            fix=OTHER_BUILD,
        )
    if gpu.free_bytes < LITTLE_MEMORY_BYTES:
        return Finding(about=gpu.device, state="bad", found=found, fix=CLOSE_OTHERS)
    return Finding(about=gpu.device, state="ok", found=found)


def _unused(seen: Accelerators) -> Finding:
    """Why a GPU that is here is not used, and what to type."""
    why, fix = why_unused(seen)
    return Finding(about="GPU", state="bad", found=f"{' and '.join(seen.present)}, but {why}", fix=fix)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    little = memory.available < LITTLE_MEMORY_BYTES
    fix = Message("close other programs, or give a smaller ", option("size")) if little else ""
    return Finding(
        about="memory",
        state="bad" if little else "ok",
        found=f"{memory.available / 1e9:.1f} of {memory.total / 1e9:.1f} GB free",
        fix=fix,
    )


def _disks() -> Iterator[Finding]:
    for about, folder, fix in (
        ("disk for weights", cache_folder(), "set HF_HOME to a folder on a larger disk"),
        ("disk here", Path(), Message("give ", option("output"), " on another disk")),
    ):
        there = nearest_folder(folder)
        free = free_bytes(there)
        little = free < LITTLE_DISK_BYTES
        writable = _can_write(there)
        found = f"{free / 1e9:.1f} GB free in {folder.absolute()}" + ("" if writable else ", which can't be written")
        yield Finding(
            about=about,
            state="bad" if little or not writable else "ok",
            found=found,
            fix=fix if little or not writable else "",
        )


def _can_write(folder: Path) -> bool:
    try:
        try_writing(folder)
    except OSError:
        return False
    return True


def _network() -> Finding:
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE")
    token = (
        "an access token is set"
        if os.environ.get("HF_TOKEN")
        else "no HF_TOKEN in the environment (only gated repositories want one)"
    )
    site = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    if offline:
        return Finding(
            about="hub",
            state="missing",
            found="HF_HUB_OFFLINE is set: nothing can be fetched",
            fix="unset HF_HUB_OFFLINE",
        )
    return Finding(about="hub", state="ok", found=f"{site}, {token}; not contacted")


def _preset(name: str, machine: Machine) -> Finding:
    """Whether a preset would run: its weights, then its memory."""
    about = f"preset {name}"
    try:
        folders = configured_folders()
        lacking = [
            requirement
            for requirement in requirements_of(load_named(name, folders).settings)
            if requirement.here() is None
        ]
        if lacking:
            lacking_text = ", ".join(f"{requirement.kind} ({requirement.locations[0]})" for requirement in lacking)
            return Finding(
                about=about,
                state="missing",
                found=f"not on this machine: {lacking_text}",
                fix=f"linfusion fetch {name}",
            )
        plan = make_plan(resolve(Request(prompt="doctor", preset=name, models=folders.roots, seed=0)), machine)
    except OutOfMemoryError as error:
        return Finding(
            about=about,
            state="bad",
            found="the weights are here, the memory is too small",
            fix=_nearest(error.message),
        )
    except LinfusionError as error:
        return Finding(about=about, state="bad", found=error.message, fix=f"linfusion presets check {name}")
    minutes = (
        f"{max(1, round(plan.seconds / 60))} min"
        if machine.speed(plan.dtype).measured
        else "minutes that linfusion plan will measure"
    )
    found = f"runs: {plan.job.size} in {plan.dtype}, about {plan.peak_bytes / 1e9:.1f} GB of memory and {minutes}"
    return Finding(about=about, state="ok", found=found)


def _nearest(message: Message) -> Message:
    """What a message names as the nearest that would do, with its options."""
    for i, part in enumerate(message.parts):
        if isinstance(part, str) and "Nearest: " in part:
            return Message(part.rpartition("Nearest: ")[2], *message.parts[i + 1 :])
    return message
