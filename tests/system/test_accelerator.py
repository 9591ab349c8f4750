"""Which GPU is taken, how much of it a plan may use, and what is said where none can be used. No test needs a GPU."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from torch_stand_in import StandInTorch

from linfusion_cli.errors import MOST_CHARACTERS, UsageError
from linfusion_cli.system import accelerator, device, gpu_probe
from linfusion_cli.system.accelerator import CUDA_RUNTIME_BYTES, choose
from linfusion_cli.system.device import Machine, find_machine

CARDS = (("RTX 4090", 8, 9), ("RTX 2080", 7, 5))


@pytest.fixture(autouse=True)
def seen_for_the_first_time(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(gpu_probe, "NVIDIA_CONTROL", gpu_probe.PROC / "not here")
    yield
    accelerator._FIRST_FREE_BYTES.clear()
    accelerator._AUTO.clear()


def found(torch: StandInTorch, asked: str, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(device, "may_have_accelerator", lambda: True)
    monkeypatch.setattr(accelerator, "find_accelerator", lambda name: choose(torch, name))
    return find_machine(asked)


@pytest.mark.parametrize(
    ("asked", "name", "bfloat16"),
    [("auto", "cuda:0", True), ("cuda", "cuda:0", True), ("cuda:0", "cuda:0", True), ("cuda:1", "cuda:1", False)],
)
def test_the_card_that_is_asked_for(asked: str, name: str, bfloat16: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = found(StandInTorch(*CARDS, archs="sm_75 sm_86"), asked, monkeypatch)
    assert (machine.device, machine.kind, machine.bfloat16) == (name, "cuda", bfloat16)
    assert machine.notes == ()
    assert not machine.unified
    assert machine.ram_bytes > machine.free_bytes == 10**9 * (1 + int(name[-1]))


def test_what_this_process_holds_is_free_for_its_next_image(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models and cached blocks of the first image, and kernels loaded for it, leave the second one as much."""
    torch = StandInTorch(CARDS[0])
    first = found(torch, "cuda", monkeypatch).free_bytes
    torch.reserved, torch.taken = 600_000_000, CUDA_RUNTIME_BYTES // 2
    assert found(torch, "cuda", monkeypatch).free_bytes == first
    torch.taken = 0
    assert found(torch, "cuda", monkeypatch).free_bytes == first
    torch.reserved = 9 * 10**9  # on paper, where a driver lets blocks go to RAM: never more than the card has
    assert found(torch, "cuda", monkeypatch).free_bytes <= found(torch, "cuda", monkeypatch).total_bytes


def test_what_other_processes_take_is_not_free(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = StandInTorch(CARDS[0])
    first = found(torch, "cuda", monkeypatch).free_bytes
    torch.taken = CUDA_RUNTIME_BYTES + 1
    assert found(torch, "cuda", monkeypatch).free_bytes == first - CUDA_RUNTIME_BYTES - 1


@pytest.mark.parametrize(("count", "words"), [(1, "only cuda:0 is here"), (2, "cuda:0 to cuda:1 are here")])
def test_a_card_that_is_not_there_names_the_nearest(count: int, words: str) -> None:
    nearest = f'device="cuda:{count - 1}"'
    with pytest.raises(UsageError, match=rf"device cuda:9: {words}. Nearest: {nearest}"):
        choose(StandInTorch(*CARDS[:count]), "cuda:9")


def old_driver() -> StandInTorch:
    """torch warns, and finds nothing."""
    torch = StandInTorch()

    def unavailable() -> bool:
        warnings.warn("CUDA initialization: The NVIDIA driver on your system is too old\n(found 11040)", stacklevel=1)
        return False

    torch.cuda.is_available = unavailable
    return torch


def failing(asked: str, error: Exception) -> StandInTorch:
    """torch finds a card, and one of its answers is an error."""
    torch = StandInTorch(CARDS[0])

    def fail(*_: int) -> Any:
        raise error

    setattr(torch.cuda, asked, fail)
    return torch


class DeferredError(Exception):
    """As torch's DeferredCudaCallError, which is no RuntimeError."""


@pytest.mark.parametrize(
    ("torch", "words", "fix"),
    [
        (old_driver, "driver on your system is too old", "a newer driver: https"),
        (
            lambda: failing("is_available", RuntimeError("CUDA driver version is insufficient for CUDA")),
            "driver version is insufficient",
            "a newer driver: https",
        ),
        (
            lambda: failing("mem_get_info", RuntimeError("CUDA error: out of memory\nCUDA kernel errors might")),
            "CUDA error: out of memory",
            "close what else uses the GPU",
        ),
        (lambda: failing("mem_get_info", RuntimeError()), "RuntimeError", "nvidia-smi"),
        (lambda: failing("get_device_capability", DeferredError("a call failed")), "a call failed", "nvidia-smi"),
        (
            lambda: StandInTorch(("GTX 1080", 6, 1), archs="sm_75"),
            r"no code for GTX 1080 \(compute capability 6.1\)",
            "a build that has it: https",
        ),
        (lambda: StandInTorch(cuda=None), "torch is the build for CPUs alone", "pip install .*whl/cu126"),
    ],
)
def test_a_card_that_can_not_be_used_says_why_and_what_to_do(
    torch: Any, words: str, fix: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu_probe, "driver_cuda_version", lambda: (12, 8))
    with pytest.raises(
        UsageError, match=rf'device cuda:0: can\'t be used.*{words}.*Nearest: device="cpu". To use the GPU: {fix}'
    ) as error:
        choose(torch(), "cuda:0")
    assert len(str(error.value)) <= MOST_CHARACTERS
    monkeypatch.setattr(gpu_probe, "NVIDIA_CONTROL", tmp_path)  # a driver is installed: the user has a GPU
    machine = found(torch(), "auto", monkeypatch)
    assert machine.kind == "cpu"
    assert len(machine.notes) == 1
    assert "linfusion doctor" in machine.notes[0]


def test_a_card_that_the_environment_hides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    with pytest.raises(
        UsageError, match=r"CUDA_VISIBLE_DEVICES=7 hides it.*To use the GPU: unset CUDA_VISIBLE_DEVICES"
    ):
        choose(StandInTorch(), "cuda")
    with pytest.raises(UsageError, match=r"cuda:7: only cuda:0 is here \(CUDA_VISIBLE_DEVICES=7\)"):
        choose(StandInTorch(CARDS[0]), "cuda:7")


def test_a_machine_without_a_gpu_has_nothing_to_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = found(StandInTorch(cuda=None), "auto", monkeypatch)
    assert (machine.kind, machine.notes, machine.reason) == ("cpu", (), "no GPU that torch can use")


def test_apples_gpu_shares_the_ram(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit is Metal's; below that, what is free in RAM, with what this process has already."""
    torch = StandInTorch(cuda=None, mps=True)
    for available, free in ((100, 16), (5, 6)):
        memory = SimpleNamespace(total=10**12, available=available * 10**9)
        monkeypatch.setattr(psutil, "virtual_memory", lambda memory=memory: memory)
        machine = found(torch, "auto", monkeypatch)
        assert (machine.device, machine.free_bytes, machine.ram_bytes) == ("mps", free * 10**9, free * 10**9)
        assert machine.unified
    with pytest.raises(UsageError, match=r"device mps: can't be used.*not a Mac"):
        choose(StandInTorch(*CARDS), "mps")


def test_a_mac_that_torch_no_longer_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = StandInTorch(cuda=None)
    torch.backends.mps.is_built = lambda: True
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(gpu_probe.platform, "mac_ver", lambda: ("12.7", (), "arm64"))
    with pytest.raises(UsageError, match=r'no Apple GPU under macOS 12.7.*Nearest: device="cpu"'):
        choose(torch, "mps")


@pytest.mark.parametrize("fused", [("float32", "float16", "bfloat16"), ("float16",), ()])
def test_torch_says_where_attention_keeps_no_scores(fused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(found(StandInTorch(CARDS[0], fused=fused), "cuda", monkeypatch).fused_attention) == set(fused)
    assert found(StandInTorch(cuda=None, mps=True), "auto", monkeypatch).fused_attention == ()


def test_a_card_that_can_not_be_asked_keeps_them(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = StandInTorch(CARDS[0])

    def full(*shape: int, dtype: str, device: str) -> Any:
        raise RuntimeError("CUDA out of memory")

    torch.empty = full
    assert found(torch, "cuda", monkeypatch).fused_attention == ()


def test_a_card_is_expected_to_be_as_fast_as_its_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    desktop, centre = (
        found(StandInTorch(card, archs="sm_86 sm_90"), "cuda", monkeypatch) for card in (CARDS[0], ("H100", 9, 0))
    )
    assert centre.speed("float16").macs_per_second == 8 * desktop.speed("float16").macs_per_second
    assert desktop.speed("float32").macs_per_second < desktop.speed("float16").macs_per_second
    assert not desktop.speed("float16").measured


@pytest.mark.slow
def test_settings_are_made_before_torch_is_asked_for_a_gpu() -> None:
    """torch's allocator reads its settings once, with the first question about a GPU."""
    code = """
import os, sys
from linfusion_cli.system import device, process_setup
process_setup.own_process()
device.may_have_accelerator = lambda: True
assert "torch" not in sys.modules
seen = []
class Watch:
    def find_spec(self, name, *_):
        if name == "torch":
            seen.append((os.environ.get("PYTORCH_ALLOC_CONF"), os.environ.get("LRU_CACHE_CAPACITY")))
sys.meta_path.insert(0, Watch())
device.find_machine("auto")
print(seen)
"""
    mine = {name: value for name, value in os.environ.items() if "ALLOC_CONF" not in name and "CAPACITY" not in name}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=mine)
    assert done.stdout.strip() == "[('expandable_segments:True', '32')]"


def with_free(torch: StandInTorch, *free_gigabytes: float) -> StandInTorch:
    torch.cuda.mem_get_info = lambda index: (int(10**9 * free_gigabytes[index]), 8 * 10**9)
    return torch


@pytest.mark.parametrize(
    ("free", "taken", "reason"),
    [
        ((7.5, 8.0), "cuda:0", "found"),
        ((4.5, 8.0), "cuda:0", "found"),
        ((1.0, 1.9), "cuda:0", "found"),  # busy, but the other one is hardly better
        ((1.0, 8.0), "cuda:1", "cuda:0 is in use: 1.0 of 8.0 GB are free"),
    ],
)
def test_a_card_that_others_use_is_left_to_them(
    free: tuple[float, ...], taken: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch = with_free(StandInTorch(*CARDS, archs="sm_75 sm_86"), *free)
    machine = found(torch, "auto", monkeypatch)
    assert (machine.device, machine.reason) == (taken, reason)
    assert found(torch, "cuda", monkeypatch).device == "cuda:0"  # the first one was asked for


def test_the_next_image_of_a_process_takes_the_same_card(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = with_free(StandInTorch(*CARDS, archs="sm_75 sm_86"), 8.0, 8.0)
    assert found(torch, "auto", monkeypatch).device == "cuda:0"
    assert found(with_free(torch, 1.0, 8.0), "auto", monkeypatch).device == "cuda:0"


def test_a_first_card_that_can_not_be_used_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = StandInTorch(("GTX 1080", 6, 1), CARDS[0], archs="sm_86")
    machine = found(torch, "auto", monkeypatch)
    assert (machine.device, machine.reason) == ("cuda:1", "the first card that can be used")
