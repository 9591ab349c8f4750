"""Hours of work are asked for; what would fail is told before, and takes no time."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from linfusion_cli.batch import dry_run
from linfusion_cli.batch.dry_run import DryRun, PlannedKind
from linfusion_cli.batch.task_list import Task
from linfusion_cli.cli import batch, long_work
from linfusion_cli.cli.app import main
from linfusion_cli.config import required_weights

KIND = PlannedKind(images=2, size="64x64", preset="landscape", seconds=7000.0, peak_bytes=1)


@pytest.fixture
def questions(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """The questions of a machine that takes hours for an image, at a terminal where each is answered with no."""
    asked: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(long_work, "can_ask", lambda *, yes: not yes)
    monkeypatch.setattr(typer, "confirm", lambda question, **_: asked.append(question))
    monkeypatch.setattr(dry_run, "dry_run", lambda *_: DryRun(planned=[KIND]))
    return asked


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        (["batch", "list.txt", "-o", "out"], "3 h 53 min"),
        (["sheet", "a lake", "--x", "seed=1,2"], "3 h 53 min"),
        (["batch", "list.txt", "-o", "out", "--max-minutes", "150.5"], "2 h 30 min"),
    ],
)
def test_people_are_asked_before_hours_of_work(questions: list[str], words: list[str], hours: str) -> None:
    Path("list.txt").write_text("sun over hills\na lake\n")
    assert main(words) == 0
    assert len(questions) == 1
    assert hours in questions[0]
    assert sorted(path.name for path in Path().iterdir()) == ["list.txt"], "nothing was started"


@pytest.mark.parametrize("more", [["--yes"], ["--json"], ["--limit", "1"], ["--max-minutes", "90"]])
def test_nobody_is_asked_for_less_with_yes_or_for_programs(
    questions: list[str], more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("list.txt").write_text("sun over hills\na lake\n")
    monkeypatch.setattr(batch, "run_tasks", lambda *_, **__: 0)
    assert main(["batch", "list.txt", "-o", "out", "--log-file", "out/log", *more]) == 0
    assert questions == []
    assert Path("out/log").exists()


@pytest.mark.parametrize(
    ("failing", "more", "hours"),
    [
        ((0, 1), ["--keep-going"], None),  # all
        ((0,), [], None),  # the first ends the run
        ((2,), [], "3 h 53 min"),  # two before it
        ((0,), ["--keep-going"], "3 h 53 min"),  # two after it
    ],
)
def test_images_that_would_fail_take_no_time_and_are_told_before_the_question(
    questions: list[str],
    failing: tuple[int, ...],
    more: list[str],
    hours: str | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def planned(tasks: list[Task], *_: object) -> DryRun:
        found = DryRun(planned=[KIND])
        found.obstacles.add("no weights", [tasks[number].id for number in failing])
        return found

    count = max(failing) + 1 if hours is None else 3
    Path("list.txt").write_text("sun over hills\na lake\nfog\n"[: None if count == 3 else [15, 22][count - 1]])
    monkeypatch.setattr(dry_run, "dry_run", planned)
    monkeypatch.setattr(batch, "run_tasks", lambda *_, **__: 0)
    assert main(["batch", "list.txt", "-o", "out", *more]) == 0
    assert [hours in question for question in questions if hours] == ([] if hours is None else [True])
    assert len(questions) == (hours is not None)
    assert ("would fail, 1 image: no weights" in capsys.readouterr().err) == (hours is not None)


@pytest.mark.parametrize("words", [["batch", "list.txt", "-o", "out"], ["sheet", "a lake", "--x", "seed=1,2"]])
def test_weights_that_are_missing_are_told_without_a_question(
    questions: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("list.txt").write_text("sun over hills\na lake\n")
    assert main([*words, "--preset", "sd15-4k"]) == 66
    assert questions == []
    assert "linfusion fetch sd15-4k" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["list.txt"], "nothing was started"


@pytest.mark.parametrize("words", [["batch", "list.txt", "-o", "out", "-q"]])
def test_names_that_are_taken_are_told_without_a_question(
    questions: list[str], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("list.txt").write_text("sun over hills\n")
    Path("out").mkdir()
    Path("out/x.png").write_bytes(b"mine")
    assert main([*words, "--name", "x"]) == 74
    assert questions == []
    assert "taken" in capsys.readouterr().err


def test_the_weights_of_many_configurations_are_looked_for_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[str] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(required_weights, "refuse_missing", lambda settings, preset: looked.append(preset))
    monkeypatch.setattr(batch, "run_tasks", lambda *_, **__: 0)
    Path("list.txt").write_text("".join(f"a lake --guidance {1 + i / 10}\n" for i in range(30)))
    assert main(["batch", "list.txt", "-o", "out"]) == 0
    assert looked == ["landscape"]
