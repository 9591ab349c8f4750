"""Rows come back from memory and from a file as they were; a full disk is an error and leaves nothing."""

import errno
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.engine.memory import slabs
from linfusion_cli.engine.memory.slabs import FileSlab, MemorySlab
from linfusion_cli.errors import OutputError
from linfusion_cli.geometry import Band


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
def test_rows_come_back_from_a_file(tmp_path: Path, dtype: torch.dtype) -> None:
    slab = FileSlab.create(tmp_path, (7, 5, 3), dtype, pinned=False)
    rows = torch.randn(7, 5, 3).to(dtype)
    slab.write(Band(4, 7), rows[4:])
    slab.write(Band(0, 4), rows[:4].transpose(0, 1).contiguous().transpose(0, 1))  # any layout
    assert torch.equal(slab.read(Band(2, 6)), rows[2:6])
    assert not list(tmp_path.iterdir()), "the file has no name, so a crash leaves nothing"
    slab.file.close()


@given(writes=st.lists(st.tuples(st.integers(0, 8), st.integers(1, 9)), max_size=12))
@settings(deadline=None, max_examples=40)
def test_a_file_and_memory_hold_the_same(writes: list[tuple[int, int]]) -> None:
    memory, file = (
        MemorySlab(torch.zeros(9, 2, 3)),
        FileSlab.create(Path("/tmp"), (9, 2, 3), torch.float32, pinned=False),
    )
    file.write(Band(0, 9), torch.zeros(9, 2, 3))
    for number, (top, height) in enumerate(writes):
        band = Band(top, min(9, top + height))
        for slab in (memory, file):
            slab.write(band, torch.full((band.height, 2, 3), float(number)))
    assert torch.equal(memory.read(Band(0, 9)), file.read(Band(0, 9)))
    file.file.close()


def test_long_rows_are_transferred_in_several_calls(tmp_path: Path) -> None:
    """A call of the operating system moves at most 2 GiB, or less."""
    slab = FileSlab.create(tmp_path, (4, 4, 4), torch.uint8, pinned=False)
    whole, done = memoryview(bytearray(range(64))), []

    def call(view: memoryview) -> int:
        done.append(bytes(view[:20]))
        return len(done[-1])

    slab._transfer(Band(0, 4), whole, call)
    assert b"".join(done) == bytes(range(64))
    with pytest.raises(OutputError, match="ended too early"):
        slab._transfer(Band(0, 4), whole, lambda view: 0)
    slab.file.close()


def test_a_full_disk_is_found_when_space_is_reserved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(slabs, "_reserve", full)
    with pytest.raises(
        OutputError,
        match=r"scratch folder .* can't hold 0\.00 GB more \(No space left.*scratch_folder, or more max_memory",
    ) as told:
        FileSlab.create(tmp_path, (4, 4, 4), torch.float32, pinned=False)
    assert told.value.exit_code == 74
    assert not list(tmp_path.iterdir())
