"""What waits in files comes back as it was; a full disk is told and leaves nothing."""

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.engine.memory import slabs as module
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.slabs import FileSlab, MemorySlab
from linfusion_cli.errors import OutputError
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import StoreBudget

CPU = torch.device("cpu")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_rows_come_back_from_a_file(tmp_path: Path, dtype: torch.dtype) -> None:
    store = ActivationStore(CPU, StoreBudget(0, 0, tmp_path))
    slab = store.slab((7, 5, 3), dtype)
    assert isinstance(slab, FileSlab)
    rows = torch.randn(7, 5, 3).to(dtype)
    slab.write(Band(4, 7), rows[4:])
    slab.write(Band(0, 4), rows[:4].transpose(0, 1).contiguous().transpose(0, 1))  # any layout
    assert torch.equal(slab.read(Band(2, 6)), rows[2:6])
    assert not list(tmp_path.iterdir()), "the file has no name, so a crash leaves nothing"


@given(sizes=st.lists(st.integers(1, 40), min_size=1, max_size=12), memory=st.integers(0, 400), kept=st.integers(0, 11))
@settings(deadline=None, max_examples=40)
def test_memory_first_then_files_and_all_is_given_back(sizes: list[int], memory: int, kept: int) -> None:
    store = ActivationStore(CPU, StoreBudget(memory, 0, Path("/tmp")))
    slabs = [store.slab((1, 1, size), torch.float32) for size in sizes]
    assert store.usage.held_bytes["device"] <= memory
    assert store.usage.held_bytes["device"] + store.usage.held_bytes["file"] == 4 * sum(sizes)
    for slab in slabs:
        assert isinstance(slab, FileSlab) == (not isinstance(slab, MemorySlab))
    del slab
    del slabs[kept:]
    assert store.usage.held_bytes["device"] + store.usage.held_bytes["file"] == 4 * sum(sizes[:kept])
    slabs.clear()
    assert store.usage.held_bytes["device"] == store.usage.held_bytes["file"] == 0


def test_a_full_disk_is_found_when_room_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, "_reserve", full)
    store = ActivationStore(CPU, StoreBudget(0, 0, tmp_path))
    with pytest.raises(
        OutputError, match=r"scratch folder .* can't hold 0\.00 GB more \(No space left.*--scratch"
    ) as told:
        store.slab((4, 4, 4), torch.float32)
    assert told.value.exit_code == 74
    assert not list(tmp_path.iterdir())
    assert store.usage.held_bytes["file"] == 0


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        ActivationStore(CPU, StoreBudget(0, 0, tmp_path / "gone")).slab((1, 1, 1), torch.float32)
