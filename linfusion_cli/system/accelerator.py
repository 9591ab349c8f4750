"""The GPU that an image is computed on, if torch can use one: its memory as a plan may use it, or why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import psutil

from linfusion_cli.errors import UsageError, option
from linfusion_cli.system.gpu_probe import Gpu, apple_gpu, cuda_gpu, look
from linfusion_cli.system.process_setup import FEW_PREPARED, importing

CUDA_RUNTIME_BYTES = 500_000_000  # kernels and libraries that CUDA loads on the way; a plan counts them; docs/log.md
_FIRST_FREE_BYTES: dict[str, int] = {}  # of each device, when this process saw it first


def find_accelerator(device: str) -> tuple[Gpu | None, str]:
    """The GPU for "auto", "cuda", "cuda:N" or "mps", and "" or why there is none that torch can use.

    Only "auto" gets None. Raises UsageError for a device that is asked for and can't be used. Everything that torch
    reads from the environment is set first: later it has no effect (the allocator reads its settings with the first
    question about a GPU).
    """
    with importing(FEW_PREPARED):
        import torch
    return choose(torch, device)


def choose(torch: Any, device: str) -> tuple[Gpu | None, str]:
    """The same with a torch module."""
    if device in ("auto", "mps") and torch.backends.mps.is_available():
        return _apple(torch), ""
    seen = look(torch)  # keeps torch's warnings from the screen
    if device == "mps" or not torch.cuda.is_available():
        reason = seen.complaint or f"torch {torch.__version__}, a build for {seen.build}, finds none"
        return _none(device, reason if device != "mps" else "this is not a Mac with an Apple GPU", present=seen.present)
    count, index = torch.cuda.device_count(), int(device.partition(":")[2] or 0)
    if index >= count:
        names = "only cuda:0 is here" if count == 1 else f"cuda:0 to cuda:{count - 1} are here"
        raise UsageError(f"{device}: {names}. Nearest: ", option("device", f"cuda:{count - 1}"), parameter="device")
    try:
        gpu = cuda_gpu(torch, index)
    except (RuntimeError, AssertionError) as error:  # full, lost, or in exclusive use of another process
        return _none(device, str(error).splitlines()[0], present=("a GPU",))
    if not gpu.kernels:
        chip = f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"
        reason = f"torch {torch.__version__} has no code for {gpu.name} ({chip})"
        return _none(device, reason, present=("a GPU",))
    return replace(gpu, free_bytes=_free_bytes(torch, gpu, index)), ""


def _none(device: str, reason: str, *, present: tuple[str, ...]) -> tuple[None, str]:
    if device != "auto":
        _refuse(device, reason)
    return None, reason if present else ""


def _refuse(device: str, reason: str) -> NoReturn:
    raise UsageError(
        f"{device}: can't be used on this machine: {reason:.200}. Try ",
        option("device", "cpu"),
        ", or `linfusion doctor`, which says how to get it to work",
        parameter="device",
    )


def _free_bytes(torch: Any, gpu: Gpu, index: int) -> int:
    """What an image of this process may use of a card: also what the process holds from images before it.

    What CUDA has loaded on the way is taken for the runtime that every plan counts: so the second image of a batch is
    planned as the first one was.
    """
    free = min(gpu.free_bytes + int(torch.cuda.memory_reserved(index)), gpu.total_bytes)
    first = _FIRST_FREE_BYTES.setdefault(gpu.device, free)
    return first if 0 < first - free <= CUDA_RUNTIME_BYTES else free


def _apple(torch: Any) -> Gpu:
    """Apple's GPUs use the machine's RAM: free is what is free there, and what this process has for its GPU already."""
    gpu, memory = apple_gpu(torch), psutil.virtual_memory()
    held = int(torch.mps.driver_allocated_memory())
    return replace(gpu, free_bytes=min(gpu.total_bytes, memory.available + held))
