"""`linfusion convert` as it is typed: what it prints, and its exit codes."""

import json
from pathlib import Path

import pytest
import torch

from linfusion_cli.cli.app import main


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    torch.save({"string_to_param": {"*": torch.ones(2, 8)}, "optimizer": [1]}, tmp_path / "moody.pt")
    return tmp_path / "moody.pt"


@pytest.mark.slow
def test_it_says_what_the_file_is_for(pickled: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(pickled)]) == 0
    told = capfd.readouterr()
    assert told.out == ""
    assert "embedding, 1 tensors; use it with --textual-inversion" in told.err
    assert "left out: optimizer" in told.err
    assert main(["convert", str(pickled)]) == 74
    assert "already exists; use --overwrite or another --output" in capfd.readouterr().err
    assert main(["convert", str(pickled), "--overwrite", "--quiet"]) == 0
    assert capfd.readouterr().err == ""


@pytest.mark.slow
def test_json_and_another_name(pickled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "b.safetensors"
    assert main(["convert", str(pickled), "-o", str(target), "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert said["type"] == "converted"
    assert said["path"] == str(target)
    assert main(["convert", str(pickled), str(pickled), "-o", str(target)]) == 2
    assert "names one file, there are 2" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["missing.pt", "missing"])
def test_a_name_that_leads_nowhere(tmp_path: Path, name: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", str(tmp_path / name)]) == 2
    assert "there is no such file" in capfd.readouterr().err
