"""Thumbnails stand where they should, with labels; what can't be drawn is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.output import contact_sheet
from linfusion_cli.output.contact_sheet import GAP_PX, Sheet, in_rows, write_sheet
from linfusion_cli.viewer.thumbnail import thumbnail

COLOURS = {"a": (250, 0, 0), "b": (0, 250, 0), "c": (0, 0, 250)}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    for name, colour in COLOURS.items():
        Image.new("RGB", (400, 200), colour).save(tmp_path / f"{name}.png")
    return {name: tmp_path / f"{name}.png" for name in COLOURS}


def drawn(sheet: Sheet, folder: Path) -> np.ndarray:
    write_sheet(sheet, folder / "sheet.png", thumbnail, overwrite=True)
    return np.asarray(Image.open(folder / "sheet.png"))


def test_thumbnails_stand_in_their_cells(files: dict[str, Path], tmp_path: Path) -> None:
    pixels = drawn(Sheet(rows=[[files["a"], files["b"]], [None, files["c"]]], cell_px=64), tmp_path)
    assert pixels.shape == (GAP_PX + 2 * (32 + GAP_PX), GAP_PX + 2 * (64 + GAP_PX), 3)
    middles = [(GAP_PX + 16 + row * 40, GAP_PX + 32 + column * 72) for row in (0, 1) for column in (0, 1)]
    found = [tuple(int(value) for value in pixels[middle]) for middle in middles]
    assert found == [COLOURS["a"], COLOURS["b"], (224, 224, 224), COLOURS["c"]]


def test_labels_make_the_sheet_larger_and_are_drawn(files: dict[str, Path], tmp_path: Path) -> None:
    rows = [[files["a"], files["b"]]]
    plain = drawn(Sheet(rows=rows, cell_px=64), tmp_path)
    labelled = drawn(Sheet(rows=rows, columns=("seed 1", "seed 2"), lines=("guidance 3",), cell_px=64), tmp_path)
    left, top = (labelled.shape[axis] - plain.shape[axis] for axis in (1, 0))
    assert min(left, top) > 0
    assert labelled[:, :left].min() < 100
    assert labelled[:top].min() < 100
    named = drawn(Sheet(rows=rows, names=[["a", "a very long name that no cell can hold"]], cell_px=64), tmp_path)
    assert named.shape[0] > plain.shape[0]
    assert named.shape[1] == plain.shape[1]


def test_as_many_rows_as_columns() -> None:
    paths = [Path(str(number)) for number in range(5)]
    assert [len(row) for row in in_rows(paths)] == [3, 3]
    assert [path for row in in_rows(paths) for path in row if path] == paths


def test_what_can_not_be_drawn_is_refused(
    files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    for rows, message in (
        ([[tmp_path / "broken.png"]], "broken.png' can't be shown"),
        ([[tmp_path / "none.png"]], "none.png' can't be shown"),
        ([[None]], "no image to show"),
    ):
        with pytest.raises(UsageError, match=message):
            write_sheet(Sheet(rows=rows), tmp_path / "sheet.png", thumbnail, overwrite=False)
    (tmp_path / "sheet.png").touch()
    with pytest.raises(OutputError, match="already exists"):
        write_sheet(Sheet(rows=[[files["a"]]]), tmp_path / "sheet.png", thumbnail, overwrite=False)
    monkeypatch.setattr(contact_sheet, "LARGEST_SHEET_PX", 1000)
    with pytest.raises(UsageError, match="give fewer images or a smaller cell"):
        write_sheet(Sheet(rows=[[files["a"]]]), tmp_path / "large.png", thumbnail, overwrite=False)
