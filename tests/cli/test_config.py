from __future__ import annotations

import json
from pathlib import Path

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.config import user_defaults as module


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "config.toml"
    path.write_text('steps = 7\nsize = "64x128"\n')
    monkeypatch.setattr(module, "config_file", lambda: path)
    return path


def test_values_are_shown_with_their_sources(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINFUSION_STEPS", "9")
    monkeypatch.setenv("LINFUSION_STEP", "1")
    assert main(["config"]) == 0
    out = capsys.readouterr().out
    assert "steps = 9" in out
    assert "# LINFUSION_STEPS" in out
    assert "Did you mean LINFUSION_STEPS?" in out
    assert main(["config", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["defaults"]["size"] == {"value": "64x128", "source": str(file)}
    assert shown["unknown"] == {"LINFUSION_STEP": "LINFUSION_STEPS"}
    for more in ([], ["-q"]):
        assert main(["generate", "a lake", "--size", "64", "--dry-run", *more]) == 0
        assert ("LINFUSION_STEP is not an option and is not used" in capsys.readouterr().err) == (more == [])


def planned(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, object]:
    assert main(["generate", "a lake", "--seed", "1", "--dry-run", "--json", *words]) == 0
    plan = json.loads(capsys.readouterr().out)["plan"]
    return {"size": plan["size"], "steps": [stage["steps"] for stage in plan["stages"]]}


@pytest.mark.slow
def test_what_is_typed_beats_a_variable_and_this_the_file(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = planned(capsys, "--steps", "7", "--size", "64x128")
    assert planned(capsys) == typed  # the very same job
    monkeypatch.setenv("LINFUSION_STEPS", "9")
    assert planned(capsys, "--steps", "7") == typed
    assert planned(capsys) != typed
    assert planned(capsys, "--aspect", "1:1", "--long-side", "64")["size"] != typed["size"]


def test_a_dry_run_names_the_source_of_each_default(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINFUSION_GUIDANCE", "3")
    words = ["generate", "a lake", "--seed", "1", "--scheduler", "ddim", "--dry-run"]
    assert main([*words, "--json"]) == 0
    sources = json.loads(capsys.readouterr().out)["sources"]
    assert sources["sampling.steps"] == str(file)
    assert sources["sampling.guidance_scale"] == "LINFUSION_GUIDANCE"
    assert sources["sampling.scheduler"] == "--scheduler"
    assert main(words) == 0
    assert f"# {file}" in capsys.readouterr().out
    assert main([*words, "--json", "--steps", "3"]) == 0
    assert json.loads(capsys.readouterr().out)["sources"]["sampling.steps"] == "--steps"


def test_a_wrong_file_stops_every_command_that_would_use_it(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("stps = 7")
    for command in (["generate", "x", "--dry-run"], ["plan"], ["config"], ["batch", "x.txt"]):
        assert main(command) == 2
        assert 'Did you mean "steps"?' in capsys.readouterr().err
