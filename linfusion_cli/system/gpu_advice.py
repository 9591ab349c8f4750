"""Why a GPU is not used, and what to type: for the doctor, and for the error where one is asked for."""

from __future__ import annotations

import sys

from linfusion_cli.errors import NO_MEMORY
from linfusion_cli.system.gpu_probe import Accelerators, mac_version

TORCH_SITE = "https://pytorch.org/get-started/locally"
TORCH_INDEX = ((13, "cu130"), (12, "cu126"))  # major CUDA version of the driver -> torch's builds for it, newest first
NEW_DRIVER = "a newer driver: https://www.nvidia.com/drivers"
OTHER_BUILD = f"a build that has it: {TORCH_SITE}"
CLOSE_OTHERS = "close what else uses the GPU (nvidia-smi lists it)"
OLD = ("too old", "insufficient")  # as torch and CUDA say it of a driver
Advice = tuple[str, str]  # why, and what to do


def why_unused(seen: Accelerators) -> Advice:
    """For a GPU of NVIDIA or AMD that torch does not find, or can't use."""
    if seen.refused:
        fix = 'sudo usermod -aG video,render "$USER", then log in again (in a container: docker run --gpus all)'
        return f"this user can't open {seen.refused}", fix
    if seen.build == "cpu" and "AMD" in seen.present and "NVIDIA" not in seen.present:
        return f"torch is the build for {seen.build}", f"the ROCm build of torch: {TORCH_SITE}"
    if seen.build == "cpu":
        return "torch is the build for CPUs alone", _install(seen)
    if seen.hidden:
        return f"{seen.limit} hides it", f"unset {seen.limit.partition('=')[0]}"
    if seen.build.startswith("rocm"):
        return seen.complaint or _finds_none(seen), f"a driver that this build of torch runs on: {TORCH_SITE}"
    wanted = int(seen.build.removeprefix("cuda ").partition(".")[0])
    if seen.driver_cuda[0] and wanted > seen.driver_cuda[0]:
        older = f"the driver is for CUDA {seen.driver_cuda[0]}.{seen.driver_cuda[1]} and older, torch for {seen.build}"
        return older, _older_build(seen)
    return why_broken(seen.complaint or _finds_none(seen))


def why_broken(complaint: str) -> Advice:
    """For a card that torch finds and can't ask for its memory: full, lost, or another process's alone."""
    told = complaint.lower()
    if "driver" in told and any(words in told for words in OLD):
        return complaint, NEW_DRIVER
    full = any(words in told for words in NO_MEMORY)
    return complaint, CLOSE_OTHERS if full else "nvidia-smi, which tests the driver without torch"


def why_no_apple(*, built: bool) -> str:
    """built: this torch is one for Apple's GPUs."""
    if sys.platform == "darwin" and built:
        return f"torch finds no Apple GPU under macOS {mac_version()}; it takes Apple silicon and a recent macOS"
    return "this is not a Mac with an Apple GPU"


def _finds_none(seen: Accelerators) -> str:
    if not seen.present:
        return f"no driver of a GPU is installed that torch {seen.torch_version} for {seen.build} could use"
    return "torch finds no device and does not say why"


def _install(seen: Accelerators) -> str:
    """The command for the build of torch that the driver runs; without a driver, where to choose one."""
    if not seen.driver_cuda[0]:
        return f"a driver, and a build of torch for the GPU: {TORCH_SITE}"
    index = next((name for major, name in TORCH_INDEX if seen.driver_cuda[0] >= major), "")
    if not index:
        return NEW_DRIVER
    return f"pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/{index}"


def _older_build(seen: Accelerators) -> str:
    install = _install(seen)
    return install if install == NEW_DRIVER else f"{NEW_DRIVER}, or: {install}"
