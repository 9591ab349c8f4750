"""The process that reads a pickle: what it allows, and what it says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from linfusion_cli.convert.child import INERT, Inert, inert_globals, read
from linfusion_cli.errors import WeightsError


@pytest.mark.slow
def test_it_tells_progress_and_what_it_left_out(tmp_path: Path) -> None:
    torch.save({"state_dict": {"a": torch.ones(3)}, "optimizer": {"lr": 1}}, tmp_path / "x.pt")
    command = [sys.executable, "-m", "linfusion_cli.convert.child", str(tmp_path / "x.pt"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines == [{"done_bytes": 12, "total_bytes": 12}, {"tensors": 1, "ignored": ["optimizer"]}]


def test_classes_are_replaced_by_inert_ones() -> None:
    assert [name for _, name in inert_globals()] == list(INERT)
    assert all(issubclass(kind, Inert) for kind, _ in inert_globals())


def test_an_unknown_class_is_named(tmp_path: Path) -> None:
    torch.save({"a": torch.nn.Linear(1, 1)}, tmp_path / "x.pt")
    with pytest.raises(WeightsError, match=r"torch\.nn\.modules\.linear\.Linear"):
        read(tmp_path / "x.pt")
