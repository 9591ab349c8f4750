"""Freed memory goes back to the system: that of weights at once, that of bands near the planned peak."""

import subprocess
import sys

import pytest

from linfusion_cli.engine.memory import allocator
from linfusion_cli.engine.memory.allocator import Relief

LET_GO = """
import psutil, torch
from linfusion_cli.engine.memory.allocator import large_apart
with large_apart():
    weights = [torch.ones(500_000) for _ in range(100)]  # 2 MB each
    held = psutil.Process().memory_info().rss
    del weights[::2]
    print(held - psutil.Process().memory_info().rss)
"""


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
