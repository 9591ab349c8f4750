"""`linfusion models` as it is typed."""

import json
from pathlib import Path

import pytest

from linfusion_cli.cli.app import main


def test_the_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("LINFUSION_MODELS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert main(["models"]) == 2
    assert "LINFUSION_MODELS" in capfd.readouterr().err
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "odd.safetensors").write_bytes(b"12345")
    assert main(["models", str(tmp_path)]) == 0
    assert "odd" in capfd.readouterr().out
    monkeypatch.setenv("LINFUSION_MODELS", str(tmp_path))
    assert main(["models", "--json"]) == 0
    said = json.loads(capfd.readouterr().out)
    assert (said["type"], said["kind"], said["name"], said["family"], said["bytes"]) == (
        *("model", "model", "odd", "unusable"),
        5,
    )
