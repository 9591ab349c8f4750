"""`batch --status` without the flags of the run asks the journal for them; hours of work are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from linfusion_cli.batch import dry_run
from linfusion_cli.batch.dry_run import DryRun, PlannedKind
from linfusion_cli.batch.journal import Flags, Journal
from linfusion_cli.batch.task_list import Task
from linfusion_cli.cli import batch, long_work
from linfusion_cli.cli.app import main

KIND = PlannedKind(images=2, size="64x64", preset="landscape", seconds=7000.0, peak_bytes=1)


def test_status_uses_the_flags_of_the_last_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("sun over hills\n")
    Path("out").mkdir()
    with Journal(Path("out")) as journal:
        journal.keep_flags(Flags({"size": "64x64", "seed": "1..3", "unknown": [1]}, "{slug}-{seed}", ""))
    assert main(["batch", "list.txt", "-o", "out", "--status"]) == 0
    shown = capsys.readouterr()
    assert "sun-over-hills-3.png" in shown.out
    assert "as in the last run: size = 64x64, seed = 1..3, name = {slug}-{seed}" in shown.err
    assert main(["batch", "list.txt", "-o", "out", "--status", "--size", "128x128", "--seeds", "7"]) == 0
    shown = capsys.readouterr()
    assert "1 image in out" in shown.out
    assert "last run" not in shown.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preview", "-"], '--preview "-": a batch shows no images in the terminal. Name a file: preview.jpg'),
        (["--preview", "x.png"], '--preview "x.png": a preview is a JPEG file'),
        (["--preview-every", "3"], "--preview-every says how often --preview is made: give both"),
    ],
)
def test_previews_that_a_batch_can_t_make_are_refused_before_it_begins(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("list.txt").write_text("sun over hills\n")
    assert main(["batch", "list.txt", *words]) == 2
    assert message in capsys.readouterr().err
    assert not Path("list").exists()


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
