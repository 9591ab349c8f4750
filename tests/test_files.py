"""A name leads to a whole file or to what was there before; nothing else is read as a file."""

from __future__ import annotations

import os
import re
import stat
import threading
from pathlib import Path

import pytest

from linfusion_cli import files
from linfusion_cli.files import free_bytes, leads_somewhere, nearest_folder, read_regular, replacing, write_atomically


def test_a_written_file_is_whole_alone_and_of_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    before = os.umask(0o027)
    try:
        write_atomically(path, "{}")
        write_atomically(path, b"{1}")
    finally:
        os.umask(before)
    assert path.read_bytes() == b"{1}"
    assert os.listdir(path.parent) == ["a.json"]
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failure_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new")
    with pytest.raises(OSError, match="No space"), replacing(path) as part:
        part.write_text("new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_many_writers_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    texts = [str(number) * 100_000 for number in range(8)]
    writers = [threading.Thread(target=write_atomically, args=(path, text)) for text in texts]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert path.read_text() in texts
    assert os.listdir(tmp_path) == ["a"]


def test_a_link_is_replaced_and_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "a").symlink_to(tmp_path / "victim")
    write_atomically(tmp_path / "a", "new")
    assert (tmp_path / "victim").read_text() == "precious"
    assert not (tmp_path / "a").is_symlink()


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    (tmp_path / "model.part").mkdir()
    (tmp_path / "model.part" / "of a killed process").write_text("x")
    with replacing(tmp_path / "model") as part:
        part.mkdir()
        (part / "inner").mkdir()
        (part / "inner" / "a").write_text("1")
        assert not (tmp_path / "model").exists()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "inner", "model"]


def test_a_folder_replaces_another_only_where_that_is_asked_for(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with replacing(tmp_path / "model", folders=True) as part:
            part.mkdir()
            (part / text).write_text(text)
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]
    with pytest.raises(OSError, match="not empty"), replacing(tmp_path / "model") as part:
        part.mkdir()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "new"]


def test_an_interrupted_body_leaves_nothing(tmp_path: Path) -> None:
    def interrupted() -> None:
        with replacing(tmp_path / "a") as part:
            part.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []


def test_only_regular_files_within_the_limit_are_read(tmp_path: Path) -> None:
    path, link = tmp_path / "a", tmp_path / "link"
    path.write_bytes(b"12345")
    link.symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(path, 5) == read_regular(link, 5) == b"12345"
    with pytest.raises(OSError, match="more than 4 bytes"):
        read_regular(path, 4)
    for odd in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OSError, match="pipe or a device"):
            read_regular(odd, 5)
    with pytest.raises(OSError, match=os.strerror(40)):
        read_regular(link, 5, follow=False)


def test_free_space_is_that_of_the_folder_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path] = []

    def usage(folder: Path) -> object:
        asked.append(folder)
        return type("Usage", (), {"free": 7})

    monkeypatch.setattr(files.shutil, "disk_usage", usage)
    assert free_bytes(tmp_path / "a" / "b") == 7
    monkeypatch.chdir(tmp_path)
    assert nearest_folder(Path("a/b")) == tmp_path
    assert asked == [tmp_path]


def test_a_home_folder_is_expanded_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert files.user_path("~/x") == tmp_path / "x"
    assert files.user_path("a/~b") == Path("a/~b")
    assert files.user_path("~nobody-has-this-name/x") == Path("~nobody-has-this-name/x")


# Who gives a file its final name, and why it is not one of the ways of files.py. Nothing may be added without a reason.
WRITERS = {
    "files.py": "the one way",
    "output/atomic_file.py": "an image: space reserved first, nothing replaced unless asked",
    "images/source_file.py": "a copy of a pipe, which no name of the user's leads to",
    "engine/memory/slabs.py": "scratch memory without a name",
    "convert/confinement.py": "names calls that are forbidden",
    "render_ranks.py": "the private folder in which the ranks of one image meet",
    "output/formats/tiff.py": "a pyramid waits in files without names",
    "output/formats/deep_zoom.py": "tiles that a killed run left are set aside, for the new ones to take their name",
    "cli/presets.py": "a blank image for the check of a preset, gone with it",
    "viewer/pyramid.py": "tiles in a cache of its own; of two processes that make the same ones, the first wins",
}


def test_no_other_module_renames_files_or_makes_temporary_ones() -> None:
    package = Path(files.__file__).parent
    call = re.compile(r"\bos\.(replace|rename)\b|\btempfile\b|\bpart\.rename\(")
    found = {path.relative_to(package).as_posix() for path in package.rglob("*.py") if call.search(path.read_text())}
    assert found == set(WRITERS)


def test_every_safetensors_file_is_written_through_replacing() -> None:
    package = Path(files.__file__).parent
    saving = [path for path in package.rglob("*.py") if re.search(r"\bsave_file\(", path.read_text())]
    assert len(saving) >= 4
    for path in saving:
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if "save_file(" in line and path.name != "checkpoint.py":  # there the whole folder is replaced
                assert "with replacing(" in lines[number - 1], f"{path}:{number + 1}"


def test_a_name_that_is_too_long_leads_nowhere(tmp_path: Path) -> None:
    assert leads_somewhere(tmp_path)
    assert not leads_somewhere(tmp_path / ("a" * 300))
