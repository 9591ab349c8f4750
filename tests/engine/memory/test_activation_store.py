"""Slabs lie in the fastest tier with space, and their space is free again when they are garbage."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.slabs import FileSlab, MemorySlab
from linfusion_cli.errors import OutputError
from linfusion_cli.planning.memory_budget import StoreBudget

CPU = torch.device("cpu")


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


def test_a_slab_that_finds_no_memory_lies_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 4000000 bytes."
        )

    notes: list[str] = []
    store = ActivationStore(CPU, StoreBudget(10**9, 10**9, tmp_path), notes.append)
    monkeypatch.setattr("linfusion_cli.engine.memory.activation_store.MemorySlab", full)
    slab = store.slab((100, 100, 100), torch.float32)
    assert isinstance(slab, FileSlab)
    assert store.usage.held_bytes == {"device": 0, "memory": 0, "file": 4_000_000}
    assert "0.00 GB more" in notes[0]


def test_a_file_that_can_not_be_made_is_not_counted(tmp_path: Path) -> None:
    store = ActivationStore(CPU, StoreBudget(0, 0, tmp_path / "gone"))
    with pytest.raises(OutputError, match="No such file or directory"):
        store.slab((1, 1, 1), torch.float32)
    assert store.usage.held_bytes["file"] == 0
