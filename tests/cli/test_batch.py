"""`batch --status` without the flags of the run asks the journal for them; hours of work are asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer

from linfusion_cli.batch import dry_run
from linfusion_cli.batch.dry_run import DryRun, PlannedKind
from linfusion_cli.batch.journal import Flags, Journal
from linfusion_cli.cli import batch, long_work
from linfusion_cli.cli.app import main


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
    kind = PlannedKind(images=2, size="64x64", preset="landscape", seconds=7000.0, peak_bytes=1)
    monkeypatch.setattr(dry_run, "dry_run", lambda *_: DryRun(planned=[kind]))
    return asked


@pytest.mark.parametrize(
    ("words", "hours"),
    [
        (["batch", "list.txt", "-o", "out"], "3 h 53 min"),
        (["sheet", "a lake", "--x", "seed=1,2"], "3 h 53 min"),
        (["batch", "list.txt", "-o", "out", "--max-minutes", "150"], "2 h 30 min"),
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
    assert main(["batch", "list.txt", "-o", "out", *more]) == 0
    assert questions == []
