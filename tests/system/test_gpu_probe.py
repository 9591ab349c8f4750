"""GPUs for the doctor. The tests need none: stand-ins answer for torch and for the driver's files."""

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch_stand_in import StandInTorch

from linfusion_cli.system import gpu_probe
from linfusion_cli.system.gpu_probe import Accelerators, Gpu, driver_version, look, look_here, runs
from linfusion_cli.system_check import Finding, accelerator_findings

CARD = Gpu(
    device="cuda:0",
    name="NVIDIA RTX 4090",
    total_bytes=24 * 10**9,
    free_bytes=20 * 10**9,
    capability=(8, 9),
    bfloat16=True,
    kernels=True,
)
GOOD = Accelerators(
    torch_version="2.13.0",
    build="cuda 12.8",
    gpus=(CARD,),
    driver="570.86",
    driver_cuda=(12, 8),
    present=("NVIDIA",),
    refused="",
    limit="",
    complaint="",
)
NONE = replace(GOOD, gpus=())


def about(seen: Accelerators) -> dict[str, Finding]:
    return {finding.about: finding for finding in accelerator_findings(seen)}


def test_what_torch_says_of_each_card() -> None:
    seen = look(StandInTorch(("RTX 4090", 8, 9), ("RTX 2080", 7, 5), archs="sm_75 sm_86 compute_90"))
    assert [(gpu.device, gpu.name, gpu.capability, gpu.free_bytes, gpu.total_bytes) for gpu in seen.gpus] == [
        ("cuda:0", "RTX 4090", (8, 9), 10**9, 8 * 10**9),
        ("cuda:1", "RTX 2080", (7, 5), 2 * 10**9, 8 * 10**9),
    ]
    assert [(gpu.bfloat16, gpu.kernels) for gpu in seen.gpus] == [(True, True), (False, True)]
    assert seen.build == "cuda 12.8"
    assert look(StandInTorch(cuda=None)).build == "cpu"
    amd = look(StandInTorch(("Instinct MI300X", 9, 4), cuda=None, hip="6.4"))
    assert (amd.build, amd.gpus[0].bfloat16, amd.gpus[0].kernels) == ("rocm 6.4", True, True)
    apple = look(StandInTorch(cuda=None, mps=True)).gpus[0]
    assert (apple.device, apple.total_bytes, apple.free_bytes) == ("mps", 16 * 10**9, 15 * 10**9)


@pytest.mark.parametrize(
    ("capability", "built_for", "wanted"),
    [
        ((8, 9), ("sm_80", "sm_90"), True),
        ((8, 0), ("sm_86",), False),
        ((6, 1), ("sm_75", "sm_80", "compute_120"), False),
        ((12, 0), ("sm_90", "compute_90"), True),
        ((9, 0), ("sm_90a",), True),
        ((12, 0), ("sm_100", "sm_120"), True),
        ((12, 0), (), False),
    ],
)
def test_which_chips_a_build_has_code_for(
    capability: tuple[int, int], built_for: tuple[str, ...], wanted: bool
) -> None:
    assert runs(capability, built_for) == wanted


def test_a_card_that_works_is_shown_with_all_that_matters() -> None:
    found = about(GOOD)
    assert found["torch build"].found == "torch 2.13.0 for cuda 12.8, driver 570.86 for CUDA up to 12.8"
    assert (
        found["cuda:0"].found
        == "NVIDIA RTX 4090, compute capability 8.9, 20.0 of 24.0 GB free; float16, bfloat16, float32"
    )
    assert all(finding.state == "ok" and not finding.fix for finding in found.values())


def test_a_card_that_is_full_old_or_unknown_to_torch() -> None:
    full, old = replace(CARD, free_bytes=10**9), replace(CARD, capability=(7, 5), bfloat16=False)
    assert about(replace(GOOD, gpus=(full,)))["cuda:0"].fix == "close what else uses the GPU (nvidia-smi lists it)"
    assert (
        'no bfloat16 (which the sd21 presets take: give dtype="float32")'
        in about(replace(GOOD, gpus=(old,)))["cuda:0"].found
    )
    unknown = about(replace(GOOD, gpus=(replace(CARD, kernels=False),)))["cuda:0"]
    assert (unknown.state, unknown.fix) == ("bad", "a build that has it: https://pytorch.org/get-started/locally")


@pytest.mark.parametrize(
    ("changes", "found", "fix"),
    [
        (
            {"build": "cpu"},
            "torch is the build for CPUs alone",
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu126",
        ),
        (
            {"build": "cpu", "driver_cuda": (13, 0)},
            "CPUs alone",
            "pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130",
        ),
        ({"build": "cpu", "driver_cuda": (0, 0)}, "CPUs alone", "a driver, and a build of torch for the GPU: https"),
        ({"build": "cpu", "driver_cuda": (11, 4)}, "CPUs alone", "a newer driver: https://www.nvidia.com/drivers"),
        (
            {"build": "cuda 13.0"},
            "the driver is for CUDA 12.8 and older, torch for cuda 13.0",
            "a newer driver: https://www.nvidia.com/drivers, or: pip install",
        ),
        ({"refused": "/dev/nvidiactl"}, "this user can't open /dev/nvidiactl", "sudo usermod -aG video,render"),
        ({"limit": "CUDA_VISIBLE_DEVICES=7"}, "CUDA_VISIBLE_DEVICES=7 hides it", "unset CUDA_VISIBLE_DEVICES"),
        ({"complaint": "CUDA unknown error"}, "NVIDIA, but CUDA unknown error", "nvidia-smi"),
        ({"present": ("AMD",), "build": "cpu"}, "AMD, but torch is the build for cpu", "the ROCm build of torch"),
    ],
)
def test_a_card_that_torch_can_not_use_has_its_reason_and_its_fix(
    changes: dict[str, Any], found: str, fix: str
) -> None:
    finding = about(replace(NONE, **changes))["GPU"]
    assert finding.state == "bad"
    assert found in finding.found
    assert finding.fix.startswith(fix)


def test_what_torch_complains_of_is_kept() -> None:
    torch = StandInTorch()

    def unavailable() -> bool:
        warnings.warn("CUDA initialization: the driver is too old\nand more", stacklevel=1)
        return False

    torch.cuda.is_available = unavailable
    assert look(torch).complaint == "CUDA initialization: the driver is too old"
    torch = StandInTorch(("RTX 4090", 8, 9))

    def broken(index: int) -> tuple[int, int]:
        raise RuntimeError(f"CUDA error: device {index} is lost\nmore")

    torch.cuda.mem_get_info = broken
    assert (look(torch).gpus, look(torch).complaint) == ((), "CUDA error: device 0 is lost")


def test_a_lost_card_leaves_the_others() -> None:
    torch = StandInTorch(("RTX 4090", 8, 9), ("RTX 2080", 7, 5))
    answer = torch.cuda.mem_get_info

    def lost(index: int) -> Any:
        if not index:
            raise OSError
        return answer(index)

    torch.cuda.mem_get_info = lost
    seen = look(torch)
    assert ([gpu.device for gpu in seen.gpus], seen.cards, seen.complaint) == (["cuda:1"], 2, "OSError")


@pytest.mark.parametrize(
    ("name", "value", "cards", "complaint", "hidden"),
    [
        ("CUDA_VISIBLE_DEVICES", "", 0, "", True),
        ("CUDA_VISIBLE_DEVICES", "-1", 0, "a driver fails", True),
        ("CUDA_VISIBLE_DEVICES", "7", 0, "", True),
        ("HIP_VISIBLE_DEVICES", "7", 0, "", True),
        ("CUDA_VISIBLE_DEVICES", "0", 0, "a driver fails", False),
        ("CUDA_VISIBLE_DEVICES", "0", 1, "", False),
    ],
)
def test_a_variable_may_hide_every_card(
    name: str, value: str, cards: int, complaint: str, hidden: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for other in gpu_probe.LIMITS:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, value)
    seen = replace(look(StandInTorch(*(("RTX 4090", 8, 9),) * cards)), complaint=complaint)
    assert (seen.limit, seen.hidden) == (f"{name}={value}", hidden)


def test_a_driver_without_its_device_file_is_a_card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As in Windows and its Linux."""
    monkeypatch.setattr(gpu_probe, "NVIDIA_CONTROL", tmp_path / "none")
    monkeypatch.setattr(gpu_probe, "driver_cuda_version", lambda: (12, 8))
    assert "NVIDIA" in look(StandInTorch(cuda=None)).present


@pytest.mark.parametrize(
    "kind",
    [
        "NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5",
        "NVIDIA UNIX Open Kernel Module for x86_64  570.86  Release",
    ],
)
def test_the_version_of_the_kernel_module(tmp_path: Path, kind: str) -> None:
    (tmp_path / "version").write_text(f"NVRM version: {kind}\nGCC version: gcc 12.3\n")
    assert driver_version(tmp_path) == ("550.54.15" if "550" in kind else "570.86")
    assert driver_version(tmp_path / "none") == ""


def test_the_torch_that_is_installed_can_be_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu_probe, "NVIDIA_CONTROL", tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    seen = look_here()
    assert seen.torch_version
    assert "NVIDIA" in seen.present
    assert seen.hidden or seen.gpus
