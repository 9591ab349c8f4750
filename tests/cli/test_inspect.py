"""`linfusion inspect`, with a stand-in for the reader of images."""

from __future__ import annotations

import json

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.output import metadata

RECORD = {
    "prompt": "a lake\x1b[31m",
    "seed": 5,
    "preset": "landscape",
    "width": 256,
    "height": 128,
    "settings": {"sampling": {"steps": 25}},
}
RECORD |= {
    "images": {},
    "upscaled": "",
    "stages": [{"index": 0, "size": "128x64", "bands": {"keep": ["all"]}}, {"index": 1, "size": "256x128"}],
}


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "read_record", lambda path: RECORD)
    monkeypatch.setattr(
        metadata, "command_of", lambda record, allowed: f"linfusion generate 'a lake' --seed {record['seed']}"
    )


def test_it_prints_the_record_and_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "lake.png"]) == 0
    text = capsys.readouterr().out
    assert "seed: 5\n" in text
    assert "settings:\n  sampling:\n    steps: 25\n" in text
    assert 'stages:\n  index 0, size 128x64, bands {"keep": ["all"]}\n  index 1, size 256x128\n' in text
    assert "upscaled" not in text
    assert text.endswith("Make it again:\n  linfusion generate 'a lake' --seed 5\n")


def test_a_stranger_s_record_can_not_drive_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for words, escaped in (([], r"\x1b[31m"), (["--json"], r"\u001b[31m")):
        assert main(["inspect", "lake.png", *words]) == 0
        shown = capsys.readouterr().out
        assert escaped in shown
        assert "\x1b" not in shown


def test_json_has_both(capsys: pytest.CaptureFixture[str]) -> None:
    main(["inspect", "lake.png", "--json"])
    event = json.loads(capsys.readouterr().out)
    assert (event["type"], event["record"], event["command"][:9]) == ("record", RECORD, "linfusion")


def test_a_file_that_is_missing_is_an_error_without_a_traceback(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    assert main(["inspect", "none.png"]) > 0
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ")
    assert "Traceback" not in captured.err


def test_a_stranger_s_record_names_no_file_in_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    overrides = {"--memory-log": "victim.txt", "--model": "evil/model", "--steps": 7, "--nonsense": 1}
    monkeypatch.setattr(metadata, "read_record", lambda path: {**RECORD, "overrides": overrides})
    assert main(["inspect", "lake.png"]) == 0
    command, left_out = capsys.readouterr().out.partition("Make it again:")[2].strip().split("\n")
    assert "--steps 7" in command
    assert not any(word in command for word in ("memory-log", "victim", "model", "nonsense"))
    assert left_out.endswith("--memory-log, --model, --nonsense")
