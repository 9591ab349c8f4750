"""The GPU that an image is computed on, if torch can use one: its memory as a plan may use it, or why there is none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import psutil

from linfusion_cli.errors import UsageError, option
from linfusion_cli.system.gpu_advice import OTHER_BUILD, Advice, why_broken, why_no_apple, why_unused
from linfusion_cli.system.gpu_probe import Accelerators, Gpu, cuda_gpu, first_line, look
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
    seen = look(torch)  # keeps torch's warnings from the screen
    if device == "mps" or (device == "auto" and any(gpu.device == "mps" for gpu in seen.gpus)):
        return _apple(torch, seen)
    if not seen.cards:
        return _none(device, why_unused(seen), present=bool(seen.present))
    index = int(device.partition(":")[2] or 0)
    if index >= seen.cards:
        _refuse_number(device, seen)
    try:
        gpu = cuda_gpu(torch, index)
    except Exception as error:  # full, lost, in exclusive use of another process: torch raises what it likes
        return _none(device, why_broken(first_line(error)), present=True)
    if not gpu.kernels:
        chip = f"compute capability {gpu.capability[0]}.{gpu.capability[1]}"
        reason = f"torch {torch.__version__} has no code for {gpu.name} ({chip})"
        return _none(device, (reason, OTHER_BUILD), present=True)
    return replace(gpu, free_bytes=_free_bytes(torch, gpu, index)), ""


def _none(device: str, advice: Advice, *, present: bool) -> tuple[None, str]:
    reason, fix = advice
    if device != "auto":
        raise UsageError(
            f"{device}: can't be used on this machine: {reason:.150}. Nearest: ",
            option("device", "cpu"),
            f". To use the GPU: {fix}" if fix else "",
            parameter="device",
        )
    return None, reason if present else ""


def _refuse_number(device: str, seen: Accelerators) -> NoReturn:
    last = seen.cards - 1
    names = f"cuda:0 to cuda:{last} are here" if last else "only cuda:0 is here"
    limited = f" ({seen.limit})" if seen.limit else ""
    raise UsageError(f"{device}: {names}{limited}. Nearest: ", option("device", f"cuda:{last}"), parameter="device")


def _free_bytes(torch: Any, gpu: Gpu, index: int) -> int:
    """What an image of this process may use of a card: also what the process holds from images before it.

    What CUDA has loaded on the way is taken for the runtime that every plan counts: so the second image of a batch is
    planned as the first one was.
    """
    free = min(gpu.free_bytes + int(torch.cuda.memory_reserved(index)), gpu.total_bytes)
    first = _FIRST_FREE_BYTES.setdefault(gpu.device, free)
    return first if 0 < first - free <= CUDA_RUNTIME_BYTES else free


def _apple(torch: Any, seen: Accelerators) -> tuple[Gpu | None, str]:
    """Apple's GPUs use the machine's RAM: free is what is free there, and what this process has for its GPU already."""
    gpu = next((gpu for gpu in seen.gpus if gpu.device == "mps"), None)
    if gpu is None:
        return _none("mps", (why_no_apple(built=torch.backends.mps.is_built()), ""), present=False)
    held = int(torch.mps.driver_allocated_memory())
    return replace(gpu, free_bytes=min(gpu.total_bytes, psutil.virtual_memory().available + held)), ""
