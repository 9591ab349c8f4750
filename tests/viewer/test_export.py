"""The page as files: complete, without a server, whole or not at all."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.viewer.content import STATIC, Content, Shown
from linfusion_cli.viewer.export import export


def test_an_export_has_every_file_that_the_page_names(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).save(tmp_path / "x.png")
    (tmp_path / "stages").mkdir()
    Image.new("RGB", (16, 8)).save(tmp_path / "stages" / "stage-0-16x8.png")
    record = {"record": {"measured": {"decode 0": {"seconds": 3, "peak_bytes": 10**9}}}}
    shown = Shown(image=tmp_path / "x.png", stages_folder=tmp_path / "stages", record=lambda: record)
    folder = tmp_path / "out" / "page"
    count = export(Content(shown, tmp_path / "cache"), folder)
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert count == len(files)
    page = (folder / "index.html").read_text()
    for name in re.findall(r'(?:src|href)="([^":]+)"', page):
        assert (folder / name).is_file()
    assert (folder / "memory.svg").is_file()
    assert (folder / "stages" / "0.jpg").is_file()
    state = json.loads((folder / "data.js").read_text().removeprefix("window.LINFUSION = ").rstrip(";\n"))
    assert state["live"] is False
    for level in range(state["image"]["levels"]):
        assert (folder / "tiles" / str(level) / "0_0.jpg").is_file()
    assert not list(tmp_path.glob("out/*.part"))


def test_what_is_there_is_never_replaced(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).save(tmp_path / "x.png")
    (tmp_path / "mine").mkdir()
    with pytest.raises(OutputError, match=r"already exists\. Give another name"):
        export(Content(Shown(image=tmp_path / "x.png"), tmp_path / "cache"), tmp_path / "mine")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="can't be written"):
        export(Content(Shown(image=tmp_path / "x.png"), tmp_path / "cache"), tmp_path / "file" / "page")


def test_of_a_damaged_image_there_is_no_page(tmp_path: Path, photo: Any) -> None:
    Image.fromarray(photo).save(tmp_path / "x.png")
    (tmp_path / "x.png").write_bytes((tmp_path / "x.png").read_bytes()[:-300])
    with pytest.raises(UsageError, match=r"x\.png"):
        export(Content(Shown(image=tmp_path / "x.png"), tmp_path / "cache"), tmp_path / "page")
    assert not (tmp_path / "page").exists()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    for name in ("index.html", "viewer.js", "viewer.css"):
        assert not re.search(r"https?://", (STATIC / name).read_text())
