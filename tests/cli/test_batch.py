"""`batch --status` without the flags of the run asks the journal for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from linfusion_cli.batch import dry_run
from linfusion_cli.batch.journal import Flags, Journal
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


@pytest.mark.parametrize(("limit", "told"), [("0", False), ("1", True), ("2", False)])
def test_a_dry_run_says_how_many_images_one_run_makes(
    limit: str, told: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dry_run, "dry_run", lambda *_: dry_run.DryRun())
    Path("list.txt").write_text("sun over hills\nfog\n")
    assert main(["batch", "list.txt", "--dry-run", "--limit", limit]) == 0
    assert ("note: 2 images: one run makes 1, as --limit says" in capsys.readouterr().out) is told
