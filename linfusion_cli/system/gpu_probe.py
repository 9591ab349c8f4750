"""What torch, the driver and the system report about GPUs, for the doctor; nothing is computed on a GPU.

A driver runs every CUDA build of its major version or an older one: docs.nvidia.com/deploy/cuda-compatibility.
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from linfusion_cli.system.speed import FORMATS

NVIDIA_CONTROL, AMD_CONTROL = Path("/dev/nvidiactl"), Path("/dev/kfd")
PROC = Path("/proc/driver/nvidia")
LIMITS = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")
NO_DEVICES = ("", "-1")  # as the value of one of them
BFLOAT16_SINCE = (8, 0)  # compute capability: older chips emulate it
# Dense multiply-adds of a multiprocessor in a clock, half precision summed in float32: NVIDIA's white papers of each
# architecture. The cards of data centres stand out.
MACS_PER_CLOCK = {(7, 0): 512, (7, 5): 512, (8, 0): 1024, (9, 0): 2048, (10, 0): 4096, (10, 3): 4096}
FEWEST_MACS = 256  # of the cards of desktops, and of AMD's
CLOCK_HERTZ, USUAL_SHARE = 1.6e9, 0.35  # guesses until a plan is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU that torch sees.

    capability: NVIDIA's compute capability, (0, 0) for others
    bfloat16:   it computes in bfloat16, without emulation; kernels: this torch has code for it
    half_macs:  multiply-adds a second in half precision that may be expected of it; 0 if unknown
    fused_attention: number formats in which torch's softmax attention keeps no scores on it
    """

    device: str
    name: str
    total_bytes: int
    free_bytes: int
    capability: tuple[int, int]
    bfloat16: bool
    kernels: bool
    half_macs: float = 0.0
    fused_attention: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Accelerators:
    """torch's build, the driver, and the GPUs that both of them reach. Unknown texts are "".

    build:       "cpu", "cuda 12.8" or "rocm 6.4"
    driver_cuda: the newest CUDA version that the driver runs, (0, 0) if unknown
    present:     makers of GPUs whose drivers are installed, whether or not torch can use them
    refused:     a device file that this user can't open
    limit:       the variable that names the GPUs which programs may see ("CUDA_VISIBLE_DEVICES=1"); "" if none is set
    complaint:   torch's own words on why it can't use CUDA, or one of its cards
    cards:       how many CUDA cards torch counts, usable or not
    """

    torch_version: str
    build: str
    gpus: tuple[Gpu, ...]
    driver: str
    driver_cuda: tuple[int, int]
    present: tuple[str, ...]
    refused: str
    limit: str
    complaint: str
    cards: int = 0

    @property
    def hidden(self) -> bool:
        """Whether the variable leaves no GPU."""
        name, _, value = self.limit.partition("=")
        return bool(name) and not self.cards and (value in NO_DEVICES or not self.complaint)


def look_here() -> Accelerators:
    """Probes with the installed torch."""
    import torch

    return look(torch)


def look(torch: Any) -> Accelerators:
    """Probes with a torch module and the system around it."""
    cuda, hip = getattr(torch.version, "cuda", None), getattr(torch.version, "hip", None)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gpus, cards, complaint = _gpus(torch)
    driver_cuda = driver_cuda_version()
    here = {"NVIDIA": NVIDIA_CONTROL.exists() or driver_cuda != (0, 0), "AMD": AMD_CONTROL.exists()}
    return Accelerators(
        torch_version=str(torch.__version__),
        build=f"rocm {hip}" if hip else f"cuda {cuda}" if cuda else "cpu",
        gpus=gpus,
        driver=driver_version(PROC),
        driver_cuda=driver_cuda,
        present=tuple(maker for maker, is_here in here.items() if is_here),
        refused=next((str(path) for path in (NVIDIA_CONTROL, AMD_CONTROL) if _refused(path)), ""),
        limit=next((f"{name}={os.environ[name].strip()}" for name in LIMITS if name in os.environ), ""),
        complaint=complaint or (first_line(caught[0].message) if caught else ""),
        cards=cards,
    )


def _refused(path: Path) -> bool:
    return path.exists() and not os.access(path, os.R_OK | os.W_OK)


def driver_version(proc: Path) -> str:
    """The version of NVIDIA's kernel module on Linux ("550.54.15"); "" if there is none."""
    try:
        found = re.search(
            r"Kernel Module\s+(?:for \S+\s+)?(\d+(?:\.\d+)+)", (proc / "version").read_text(encoding="utf-8")
        )
    except OSError:
        return ""
    return found[1] if found else ""


def driver_cuda_version() -> tuple[int, int]:
    """The newest CUDA version that the installed driver runs, from the driver's own library; (0, 0) without one."""
    number = ctypes.c_int(0)
    try:
        library = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
        failed = library.cuDriverGetVersion(ctypes.byref(number))
    except (OSError, AttributeError):
        return (0, 0)
    return (0, 0) if failed else (number.value // 1000, number.value % 1000 // 10)


def _gpus(torch: Any) -> tuple[tuple[Gpu, ...], int, str]:
    """The GPUs that torch can use, how many CUDA cards it counts, and its first message if one fails."""
    found: list[Gpu] = []
    cards, complaint = 0, ""
    try:
        if torch.backends.mps.is_available():
            found.append(apple_gpu(torch))
        cards = torch.cuda.device_count() if torch.cuda.is_available() else 0
    except Exception as error:  # drivers and torch's deferred calls raise what they like
        complaint = first_line(error)
    for index in range(cards):
        try:
            found.append(cuda_gpu(torch, index))
        except Exception as error:
            complaint = complaint or first_line(error)
    return tuple(found), cards, complaint


def first_line(told: Warning | Exception | str) -> str:
    """The first line of what an error or a warning says; its name where it says nothing."""
    return next(iter(str(told).splitlines()), "") or type(told).__name__


def cuda_gpu(torch: Any, index: int) -> Gpu:
    """A card of NVIDIA or AMD. Raises RuntimeError where it is lost, full, or another process's alone."""
    free, total = torch.cuda.mem_get_info(index)
    amd = bool(getattr(torch.version, "hip", None))
    capability = (0, 0) if amd else tuple(torch.cuda.get_device_capability(index))
    return Gpu(
        device=f"cuda:{index}",
        name=torch.cuda.get_device_name(index),
        total_bytes=total,
        free_bytes=free,
        capability=(capability[0], capability[1]),
        bfloat16=amd or capability >= BFLOAT16_SINCE,
        kernels=amd or runs(capability, tuple(torch.cuda.get_arch_list())),
        half_macs=half_macs(capability, torch.cuda.get_device_properties(index).multi_processor_count),
        fused_attention=fused_attention(torch, f"cuda:{index}"),
    )


def fused_attention(torch: Any, device: str) -> tuple[str, ...]:
    """The number formats in which torch has a kernel for softmax attention that keeps no scores, by its own answer."""
    return tuple(name for name in FORMATS if _is_fused(torch, getattr(torch, name), device))


def _is_fused(torch: Any, dtype: Any, device: str) -> bool:
    ask = torch.backends.cuda
    try:
        sample = torch.empty(1, 1, 64, 64, dtype=dtype, device=device)
        asked = ask.SDPAParams(sample, sample, sample, None, 0.0, False, False)
        return bool(ask.can_use_flash_attention(asked) or ask.can_use_efficient_attention(asked))
    except Exception:  # a card that has no memory for the question
        return False


def half_macs(capability: tuple[int, ...], processors: int) -> float:
    """Multiply-adds a second in half precision: the peak by the maker's tables, at a clock and a share that are usual.

    capability: (0, 0) for cards that are not NVIDIA's; processors: NVIDIA's multiprocessors or AMD's compute units
    """
    return processors * MACS_PER_CLOCK.get((capability[0], capability[1]), FEWEST_MACS) * CLOCK_HERTZ * USUAL_SHARE


def apple_gpu(torch: Any) -> Gpu:
    """Apple's GPU; free is what Metal recommends beyond what this process has."""
    total = int(torch.mps.recommended_max_memory())
    held = int(torch.mps.driver_allocated_memory())
    modern = sys.platform == "darwin" and int(mac_version().partition(".")[0] or 0) >= 14  # bfloat16 since macOS 14
    return Gpu(
        device="mps",
        name="Apple GPU",
        total_bytes=total,
        free_bytes=total - held,
        capability=(0, 0),
        bfloat16=modern,
        kernels=True,
    )


def mac_version() -> str:
    """ "14.5"; "" elsewhere."""
    return platform.mac_ver()[0]


def runs(capability: tuple[int, ...], built_for: tuple[str, ...]) -> bool:
    """Whether code for one of the builds runs on a chip of this compute capability.

    "sm_86" runs on chips of the same major version and this minor version or later, "compute_86" on newer ones too.
    """
    for name in built_for:
        kind, _, digits = name.rstrip("af").partition("_")
        if not digits.isdigit():
            continue
        built = (int(digits[:-1] or 0), int(digits[-1]))
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False
