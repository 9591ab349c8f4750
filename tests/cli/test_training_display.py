"""Long work is run to its end and tells of itself on stderr: in lines, in a live bar, or not at all."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from clock import Clock

from linfusion_cli.cli import training_display
from linfusion_cli.cli.logs import LogFile
from linfusion_cli.cli.training_display import LOG_SECONDS, Advance, TrainingDisplay, show


@dataclass(frozen=True)
class Step:
    """As training.trainer.Progress tells it."""

    step: int
    steps: int = 3

    def __str__(self) -> str:
        return f"step {self.step} of {self.steps}"


def work(done: list[int]) -> Iterator[object]:
    yield "preparing\x1b[31m [b]"
    for step in range(1, 4):
        done.append(step)
        yield Step(step)


def test_progress_has_a_step_and_notes_have_none() -> None:
    assert isinstance(Step(1), Advance)
    assert not isinstance("a note", Advance)


def test_lines_go_to_stderr_and_move_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show(work([]), quiet=False)
    out, err = capsys.readouterr()
    assert out == ""
    assert "\x1b" not in err
    assert err.splitlines()[1:] == ["step 1 of 3", "step 2 of 3", "step 3 of 3"]


def test_quiet_work_is_done_all_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    done: list[int] = []
    show(work(done), quiet=True)
    assert done == [1, 2, 3]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_and_keeps_the_notes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_display, "has_live_terminal", lambda: True)
    done: list[int] = []
    show(work(done), quiet=False)
    out, err = capsys.readouterr()
    assert done == [1, 2, 3]
    assert out == ""
    assert "preparing" in err
    assert "[b]" in err, "no markup is read"
    assert "\x1b[31m" not in err


def test_an_error_of_the_work_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> Iterator[object]:
        yield "begun"
        raise ValueError("stopped")

    for live in (False, True):
        monkeypatch.setattr(training_display, "has_live_terminal", lambda live=live: live)
        with pytest.raises(ValueError, match="stopped"):
            show(failing(), quiet=False)


@dataclass(frozen=True)
class Report:
    """A result, as evaluate.study.StudyReport is one."""

    kind: str = "report"

    def as_dict(self) -> dict[str, object]:
        return {"path": "x", "token": "hf_" + "a1" * 17}

    def lines(self) -> Iterator[str]:
        yield "| table |"


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("live", [False, True])
def test_results_go_to_stdout(
    quiet: bool, live: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(training_display, "has_live_terminal", lambda: live)
    show(["a note", Report()], quiet=quiet)
    out, err = capsys.readouterr()
    assert out == "| table |\n"
    assert ("a note" in err) != quiet


def test_programs_get_lines_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    show(["a \x1bnote", Report()], quiet=True, as_json=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"type": "note", "text": "a \x1bnote"}, {"type": "report", "path": "x", "token": "[secret]"}]


def test_of_a_launcher_s_processes_the_first_one_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("RANK", "1")
    with LogFile(tmp_path / "log") as log:
        show(["a note", Report()], quiet=False, as_json=True, log=log)
    assert capsys.readouterr() == ("", "")
    assert (tmp_path / "log").read_text() == ""


def test_a_log_has_the_notes_the_results_and_progress_now_and_then(tmp_path: Path, clock: Clock) -> None:
    def work() -> Iterator[object]:
        yield "a note"
        for step in (1, 2):
            yield Step(step)
        clock.seconds += LOG_SECONDS
        yield Step(2)
        yield Step(3)
        yield Report()

    with LogFile(tmp_path / "log") as log, TrainingDisplay(quiet=True, log=log, now=clock) as display:
        display.run(work())
    said = [line.split(" ", 1)[1] for line in (tmp_path / "log").read_text().splitlines()]
    assert said == ["a note", "step 1 of 3", "step 2 of 3", "step 3 of 3", "| table |"]
