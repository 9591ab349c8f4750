"""Folders are made with those above them; what is in the way is told with the flag."""

from pathlib import Path

import pytest

from linfusion_cli.errors import OutputError
from linfusion_cli.output.atomic_file import make_folder


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    assert make_folder(folder) == make_folder(folder) == folder
    assert folder.is_dir()


def test_what_is_in_the_way_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"^--stages '.*file' is not a folder$"):
        make_folder(tmp_path / "file", "--stages")
    with pytest.raises(OutputError, match="can't make the folder"):
        make_folder(tmp_path / "file" / "below")
