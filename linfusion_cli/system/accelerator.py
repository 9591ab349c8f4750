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
BUSY_SHARE = 0.5  # a card of which others leave less is left to them, where another has twice as much
_FIRST_FREE_BYTES: dict[str, int] = {}  # of each device, when this process saw it first
_AUTO: dict[str, int] = {}  # the card that "auto" took in this process: its next image finds the model there


def find_accelerator(device: str) -> tuple[Gpu | None, str]:
    """The GPU for "auto", "cuda", "cuda:N" or "mps", and "" or why it is not the first or there is none.

    Only "auto" gets None, or another card than the first: where that is busy or can't be used. Raises UsageError for a
    device that is asked for and can't be used. Everything that torch reads from the environment is set first: later it
    has no effect (the allocator reads its settings with the first question about a GPU).
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
    index = _auto_card(torch, seen) if device == "auto" else int(device.partition(":")[2] or 0)
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
    return replace(gpu, free_bytes=_free_bytes(torch, gpu, index)), _passed_over(
        seen, index
    ) if device == "auto" else ""


def _auto_card(torch: Any, seen: Accelerators) -> int:
    """The first card; another one if the first can't be used, or if others use it and leave far less than there is."""
    if "card" not in _AUTO:
        usable = {int(gpu.device.partition(":")[2]): gpu for gpu in seen.gpus if gpu.kernels}
        free = {index: _free_bytes(torch, gpu, index) for index, gpu in usable.items()}
        first, freest = min(usable, default=0), max(free, key=free.__getitem__, default=0)
        busy = bool(free) and free[first] < BUSY_SHARE * usable[first].total_bytes and 2 * free[first] < free[freest]
        _AUTO["card"] = freest if busy else first
    return _AUTO["card"]


def _passed_over(seen: Accelerators, taken: int) -> str:
    """Why "auto" took another card than the first; "" if it took that."""
    if not taken:
        return ""
    first = next((gpu for gpu in seen.gpus if gpu.device == "cuda:0" and gpu.kernels), None)
    if first is None:
        return "the first card that can be used"
    return f"cuda:0 is in use: {first.free_bytes / 1e9:.1f} of {first.total_bytes / 1e9:.1f} GB are free"


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
