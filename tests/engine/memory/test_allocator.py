"""Freed memory goes back to the system: that of weights at once, that of bands near the planned peak."""

import subprocess
import sys

import pytest
import torch

from linfusion_cli.engine.memory import allocator
from linfusion_cli.engine.memory.allocator import Relief, limit_device

LET_GO = """
import psutil, torch
from linfusion_cli.engine.memory.allocator import large_apart
with large_apart():
    weights = [torch.ones(500_000) for _ in range(100)]  # 2 MB each
    held = psutil.Process().memory_info().rss
    del weights[::2]
    print(held - psutil.Process().memory_info().rss)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc keeps freed memory")
def test_weights_that_are_let_go_leave_no_gaps() -> None:
    """In a process of its own: where the heap has free room already, as after other tests, that is used first."""
    freed = int(subprocess.check_output([sys.executable, "-c", LET_GO]))
    assert freed > 80_000_000


@pytest.mark.parametrize(("planned_bytes", "times"), [(1, 1), (1 << 50, 0)])
def test_freed_memory_goes_back_where_the_process_holds_nearly_what_was_planned(
    monkeypatch: pytest.MonkeyPatch, planned_bytes: int, times: int
) -> None:
    given_back: list[bool] = []
    monkeypatch.setattr(allocator, "release_freed", lambda: given_back.append(True))
    Relief(planned_bytes)()
    assert len(given_back) == times


@pytest.mark.parametrize(
    ("budget", "fraction"), [(8_500_000_000, 8 / 24), (400_000_000, 0.0), (10**12, 1.0), (24_500_000_000, 1.0)]
)
def test_a_card_is_limited_to_the_budget(budget: int, fraction: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside what CUDA takes for itself, 0.5 GB, which is not the allocator's."""
    asked: list[object] = []
    monkeypatch.setattr(torch.cuda, "set_device", asked.append)
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", lambda *values: asked.append(values))
    card = torch.device("cuda:1")
    limit_device(card, budget, total_bytes=24_000_000_000)
    assert asked == [card, (pytest.approx(fraction), card)]


def test_apples_gpu_is_limited_and_a_cpu_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[float] = []
    monkeypatch.setattr(torch.mps, "set_per_process_memory_fraction", asked.append)
    for name in ("mps", "cpu"):
        limit_device(torch.device(name), 6_000_000_000, total_bytes=12_000_000_000)
    assert asked == [0.5]
