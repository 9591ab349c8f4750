"""What is written beside an image is checked before the work, and the checks leave nothing."""

import os
import sys
from pathlib import Path

import pytest

from linfusion_cli.errors import OutputError
from linfusion_cli.events import Event
from linfusion_cli.output.side_files import restore_folder, side_checks

NOBODYS = Path("/proc")  # permissions let root write there, and the system lets nobody


def refusals(image: Path, **places: Path | None) -> list[str]:
    found = []
    for check in side_checks(image, **{"preview": None, "memory_log": None, "stages_folder": None, **places}):
        try:
            check()
        except OutputError as error:
            found.append(f"{error.parameter}: {error}")
    return found


@pytest.mark.skipif(not NOBODYS.is_dir(), reason="this system has no /proc")
@pytest.mark.parametrize("name", ["preview", "memory_log", "stages_folder"])
def test_a_place_that_the_system_refuses_is_found(tmp_path: Path, name: str) -> None:
    (said,) = refusals(tmp_path / "a.png", **{name: NOBODYS / "new"})
    assert said.startswith(f"{name}: {name} ")
    assert "can't be written" in said or "no permission" in said


def test_good_places_are_not_refused_and_nothing_is_left_there(tmp_path: Path) -> None:
    places = {name: tmp_path / name for name in ("preview", "memory_log", "stages_folder")}
    before = os.stat(tmp_path).st_mtime_ns
    assert refusals(tmp_path / "a.png", **places) == []
    assert (list(tmp_path.iterdir()), os.stat(tmp_path).st_mtime_ns) == ([], before)


@pytest.mark.parametrize("kind", ["file", "link"])
def test_something_else_in_the_place_of_checkpoints_is_found(tmp_path: Path, kind: str) -> None:
    hidden = tmp_path / ".linfusion"
    if kind == "file":
        hidden.write_bytes(b"")
    else:
        hidden.symlink_to(tmp_path.parent, target_is_directory=True)
    (said,) = refusals(tmp_path / "a.png")
    assert "Can't keep checkpoints" in said


def test_a_preview_can_not_replace_a_folder(tmp_path: Path) -> None:
    (said,) = refusals(tmp_path / "a.png", preview=tmp_path)
    assert "is a folder" in said


def test_a_folder_is_made_again_with_a_note_and_one_that_is_there_is_left(tmp_path: Path) -> None:
    told: list[Event] = []
    for _ in range(2):
        restore_folder(tmp_path / "out", told.append)
    assert (tmp_path / "out").is_dir()
    assert len(told) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says where the folder was")
@pytest.mark.parametrize("folder", [".", "out"])
def test_a_current_folder_that_was_removed_is_made_again_and_entered(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current, told = tmp_path / "current", list[Event]()
    current.mkdir()
    monkeypatch.chdir(current)
    current.rmdir()
    restore_folder(Path(folder), told.append)
    (Path(folder) / "x.png").write_bytes(b"x")
    assert (current / folder / "x.png").is_file()
    assert "'current' was removed" in str(told[0]).replace(f"{tmp_path}/", "")


def test_a_folder_that_is_absolute_needs_no_current_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    current.rmdir()
    restore_folder(tmp_path / "out", lambda event: None)
    assert not current.exists()
