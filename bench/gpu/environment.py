"""What is here: card, driver, versions, memory, and how fast memory is copied. An unfit machine is told so plainly."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from collections.abc import Callable, Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from bench.gpu.case import STAND_IN, Case, Setting, attempt
from bench.gpu.timing import seconds_of

LEAST_TORCH = (2, 10)
NEEDED = ("torch", "diffusers", "transformers", "accelerate", "safetensors", "numpy", "psutil", "pillow")
NOT_NEEDED = ("triton", "peft")
COPY_BYTES = 1 << 28
WHEELS_MADE = "make gpu-wheels"
WHEELS_USED = "pip install --no-index --no-deps --find-links wheels wheels/*.whl"


def cases(setting: Setting) -> Iterator[Case]:
    yield Case("python", None, {"version": platform.python_version(), "system": platform.platform()})
    yield (packages := _packages())
    if packages.ok is False:
        return
    import torch

    yield Case("build", None, {"torch": str(torch.__version__), "cuda": torch.version.cuda, "hip": torch.version.hip})
    if setting.kind == "cpu":
        yield Case("card", None, {"name": STAND_IN})
    else:
        card = attempt("card", lambda: _card(torch, setting))
        yield card
        if card.ok is False:
            return
    yield attempt("memory", lambda: _memory(torch, setting))
    yield attempt("copies", lambda: _copies(torch, setting))


def _packages() -> Case:
    """Versions; one that is missing or too old is named with the command that installs it."""
    found: dict[str, Any] = {name: _version(name) for name in (*NEEDED, *NOT_NEEDED)}
    missing = [name for name in NEEDED if not found[name]]
    for name in NOT_NEEDED:
        found[name] = found[name] or "none"
    if missing:
        return Case("packages", False, {"error": _missing(missing), **found})
    numbers = tuple(int(part) for part in found["torch"].split("+")[0].split(".")[:2])
    if numbers < LEAST_TORCH:
        error = f"torch {found['torch']} is too old: 2.10 or later is needed"
        return Case("packages", False, {"error": error, **found})
    return Case("packages", True, found)


def _missing(names: list[str]) -> str:
    """What is not installed, and the commands for a machine without a network; torch is not among the wheels."""
    carried = [name for name in names if name != "torch"]
    here = f"`{WHEELS_MADE}` where there is a network, copy the folder wheels here, then `{WHEELS_USED}`"
    torch = ["torch is not installed: 2.10 or later, built for the card, is needed"] if "torch" in names else []
    others = [f"{', '.join(carried)} not installed: {here}; with a network: pip install {' '.join(carried)}"]
    return ". ".join([*torch, *(others if carried else [])])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # a build from source may have no record of its installation
        return "here" if importlib.util.find_spec({"pillow": "PIL"}.get(name, name)) else ""


def _card(torch: Any, setting: Setting) -> Case:
    """The card, or why torch can't use it: the words of the driver first, as `linfusion doctor` has them."""
    from linfusion_cli.system.gpu_probe import look

    seen = look(torch)
    driver = {"driver": seen.driver or "unknown", "driver_cuda": ".".join(map(str, seen.driver_cuda))}
    if error := _refused(seen, torch.version.cuda):
        return Case("card", False, {"error": error, **driver})
    index = int(setting.device.partition(":")[2] or 0)
    names = [gpu.device for gpu in seen.gpus]
    if f"cuda:{index}" not in names:
        return Case("card", False, {"error": f"{setting.device} is not here: {', '.join(names)}", **driver})
    gpu = seen.gpus[index]
    found = {
        "name": gpu.name,
        "capability": ".".join(map(str, gpu.capability)),
        "bfloat16": gpu.bfloat16,
        "total_gb": round(gpu.total_bytes / 1e9, 1),
        "free_gb": round(gpu.free_bytes / 1e9, 1),
        "half_macs_expected": gpu.half_macs,
        "others": len(names) - 1,
        "allocator": os.environ.get("PYTORCH_ALLOC_CONF", ""),
    }
    if not gpu.kernels:
        return Case(
            "card", False, {"error": f"torch {torch.__version__} has no code for {gpu.name}", **found, **driver}
        )
    return Case("card", True, {**found, **driver})


def _refused(seen: Any, built_for: str | None) -> str:
    """Why no card can be used, "" if one can."""
    newest, built = seen.driver_cuda, tuple(int(part) for part in (built_for or "0.0").split(".")[:2])
    if not built_for and seen.build.startswith("cpu"):
        return f"torch {seen.torch_version} is a build for CPUs: install one for CUDA"
    if built_for and newest[0] and newest[0] < built[0]:
        return (
            f"the driver {seen.driver or '(unknown)'} is too old: it runs CUDA up to {newest[0]}.{newest[1]}, and this "
            f"torch is built for CUDA {built_for}. Install a newer driver, or a torch for CUDA {newest[0]}"
        )
    if not seen.gpus:
        return seen.complaint or "torch finds no GPU"
    return ""


def _memory(torch: Any, setting: Setting) -> Case:
    """RAM and disk, and what CUDA itself takes of the card: the plan counts half a gigabyte for it."""
    import psutil

    ram = psutil.virtual_memory()
    found: dict[str, Any] = {
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "ram_gb": round(ram.total / 1e9, 1),
        "ram_free_gb": round(ram.available / 1e9, 1),
        "disk_free_gb": round(shutil.disk_usage(setting.scratch).free / 1e9, 1),
    }
    if setting.kind == "cuda":
        from linfusion_cli.system.accelerator import CUDA_RUNTIME_BYTES

        before, _ = torch.cuda.mem_get_info(setting.device)
        side = torch.randn(512, 512, device=setting.device, dtype=torch.float16)
        image = torch.randn(1, 64, 256, 256, device=setting.device, dtype=torch.float16)
        torch.nn.functional.conv2d(image, torch.randn(64, 64, 3, 3, device=setting.device, dtype=torch.float16))
        (side @ side).sum().item()
        after, _ = torch.cuda.mem_get_info(setting.device)
        taken = before - after - torch.cuda.memory_reserved(setting.device)
        found |= {"libraries_mb": round(taken / 1e6), "planned_runtime_mb": round(CUDA_RUNTIME_BYTES / 1e6)}
    return Case("memory", None, found)


def _copies(torch: Any, setting: Setting) -> Case:
    """Bytes a second from RAM to the device and back, from pageable and from page-locked RAM."""
    size = COPY_BYTES >> (6 if setting.quick else 0)
    on_device = torch.empty(size, dtype=torch.uint8, device=setting.device)
    found: dict[str, Any] = {"mb": size >> 20}
    for name, pinned in (("pageable", False), ("page_locked", True)):
        if pinned and setting.kind == "cpu":
            continue
        ram = torch.zeros(size, dtype=torch.uint8, pin_memory=pinned)
        up = _best(lambda ram=ram: on_device.copy_(ram, non_blocking=True), setting)  # type: ignore[misc]
        down = _best(lambda ram=ram: ram.copy_(on_device, non_blocking=True), setting)  # type: ignore[misc]
        found |= {
            f"{name}_to_device_gb_s": round(size / up / 1e9, 2),
            f"{name}_to_ram_gb_s": round(size / down / 1e9, 2),
        }
    return Case("copies", None, found)


def _best(copy: Callable[[], object], setting: Setting) -> float:
    """Seconds of the fastest of four; the first one does not count."""
    return max(min([seconds_of(copy, setting) for _ in range(4)][1:]), 1e-9)
