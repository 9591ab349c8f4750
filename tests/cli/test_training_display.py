"""Long work is run to its end and tells of itself on stderr: in lines, in a live bar, or not at all."""

from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from linfusion_cli.cli import training_display
from linfusion_cli.cli.training_display import Advance, show


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
