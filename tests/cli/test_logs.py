"""Log files: dated lines that are safe to show, begun anew before they grow large."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from linfusion_cli.cli import logs
from linfusion_cli.cli.app import main
from linfusion_cli.cli.logs import LogFile

COMMAND = ["generate", "a lake \x1b[31m", "--seed", "5", "--size", "256x128", "--quiet", "--log-file", "lake.log"]
DATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d{4} ")


def test_a_log_is_begun_anew_before_it_grows_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LARGEST_BYTES", 500)
    with LogFile(tmp_path / "x.log") as log:
        for i in range(100):
            log.add(f"line {i} \x1b[31m")
    files = sorted(tmp_path.iterdir(), key=lambda path: path.name)
    assert [path.name for path in files] == ["x.log", *(f"x.log.{i}" for i in range(1, logs.KEPT_FILES + 1))]
    assert all(0 < path.stat().st_size <= 500 for path in files)
    lines = [line for path in [files[0], *files[1:]][::-1] for line in path.read_text().splitlines()]
    assert lines[-1].endswith("line 99 \\x1b[31m")
    assert all(DATED.match(line) for line in lines)


def test_a_log_is_never_written_through_a_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "lake.log").symlink_to("victim")
    assert main(COMMAND) == 74
    assert "--log-file lake.log: can't be written" in capsys.readouterr().err
    assert (tmp_path / "victim").read_text() == "precious"


def test_generate_tells_its_story_to_the_log(
    fakes: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(COMMAND) == 0
    assert capsys.readouterr() == ("", "")
    lines = (tmp_path / "lake.log").read_text().splitlines()
    assert all(DATED.match(line) for line in lines)
    assert "a lake \\x1b[31m" in lines[0]
    assert any("denoise" in line for line in lines)
    assert "made: " in lines[-1]


def test_what_ends_generate_is_in_the_log(
    fakes: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.chdir(tmp_path)
    fakes.make_plan = fail
    assert main(COMMAND) == 4
    assert "ended by MemoryError" in (tmp_path / "lake.log").read_text()
