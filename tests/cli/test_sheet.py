"""Grids are made once and drawn from what is there; a folder gives a contact sheet."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from linfusion_cli.cli.app import main
from linfusion_cli.output.metadata import read_record


@pytest.mark.slow
def test_a_grid_is_made_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["sheet", "a lake", "--x", "seed=1,2", "--y", "cfg=1,4", "--size", "64", "--steps", "3", "--cell", "64"]
    assert main([*command, "-q", "-o", "grid.png"]) == 0
    records = [read_record(path) for path in Path("grid-images").glob("*.png")]
    settings = {(record["seed"], record["guidance_scale"]) for record in records}
    assert settings == {(1, 1.0), (2, 1.0), (1, 4.0), (2, 4.0)}
    assert main([*command, "--json", "-o", "grid.png", "--overwrite"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert next(row for row in rows if row["type"] == "summary")["skipped"] == 4
    assert rows[-1] == {"type": "sheet", "path": "grid.png", "images": 4}


def test_a_folder_gives_a_contact_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.new("RGB", (40, 20), (80 * number, 0, 0)).save(tmp_path / f"{number}.jpg")
    target = tmp_path / "all.png"
    for more in ([], ["--overwrite"]):  # the sheet itself is no image of the second one
        assert main(["sheet", str(tmp_path), "-o", str(target), "--json", *more]) == 0
        assert json.loads(capsys.readouterr().out)["images"] == 3


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a lake"], "For a grid of a prompt give --x, --y or both"),
        (["a lake", "--x", "seed=1..2", "--y", "seed=3"], "both axes are seed"),
        (["a lake", "--x", "steps=0"], "steps 0: --steps 0: write a whole number from 1 to 500"),
        (["a lake", "--x", "sed=1"], 'Did you mean "seed"?'),
        (["a lake", "--x", "seed=1", "--cell", "3"], "must be 16 or more"),
        (
            ["a lake", "--x", "seed=1..9", "--y", "cfg=3,4,5", "--size", "4096", "--cell", "4096"],
            "the sheet would have 36936x12312 pixels: give fewer images or a smaller cell",
        ),
        (["a lake", "--x", "seed=1", "--format", "dzi"], '--format "dzi": a sheet shows no deep zoom. Nearest: "png"'),
        (["a lake", "--x", "seed=1", "-o", "grid.jpg"], '--output "grid.jpg": a sheet is a PNG. Nearest: "grid.png"'),
    ],
)
def test_a_sheet_that_can_not_be(
    words: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["sheet", *words]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_has_no_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sheet", str(tmp_path), "-o", str(tmp_path / "x.png")]) == 2
    assert "there is no image in it" in capsys.readouterr().err
