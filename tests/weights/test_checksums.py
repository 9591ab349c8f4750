"""Damaged weights are told where their hash is known, by the hub's cache or by a list; they are read once."""

import hashlib
import os
import shlex
from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.files import sha256_of
from linfusion_cli.weights import checksums
from linfusion_cli.weights.checksums import SUMS, known_sha256, verify

DATA = b"weights"
SUM = hashlib.sha256(DATA).hexdigest()


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "linfusion" / "verified.json"


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    """A link as the hub's cache has it, to a blob that is named by its hash."""
    blobs = tmp_path / "blobs"
    blobs.mkdir()
    (blobs / SUM).write_bytes(DATA)
    link = tmp_path / "snapshots" / "x.safetensors"
    link.parent.mkdir()
    link.symlink_to(blobs / SUM)
    return link


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my model" / "unet").mkdir(parents=True)
    path = tmp_path / "my model" / "unet" / "x y.safetensors"
    path.write_bytes(DATA)
    return path


def test_a_blob_of_the_hub_is_known_by_its_name(blob: Path) -> None:
    assert known_sha256(blob) == SUM
    verify(blob)


def test_a_file_that_only_looks_like_a_blob_is_not_known(tmp_path: Path) -> None:
    (tmp_path / SUM).write_bytes(b"other")
    assert known_sha256(tmp_path / SUM) == ""
    verify(tmp_path / SUM)


@pytest.mark.parametrize("line", ["{}  {}", "{} *{}", "{}  ./{}"])
@pytest.mark.parametrize("above", [False, True])
@pytest.mark.parametrize("capitals", [False, True])
def test_a_list_of_sums_knows_its_files(file: Path, line: str, above: bool, capitals: bool) -> None:
    folder = file.parents[above]
    text = line.format(SUM.upper() if capitals else SUM, file.relative_to(folder).as_posix())
    (folder / SUMS).write_text(f"# a comment\n{'0' * 64}  other.safetensors\n{text}\n")
    assert known_sha256(file) == SUM


@pytest.mark.parametrize("content", [b"\xff\xfe", SUM.encode(), f"{SUM[:-1]}  x y.safetensors".encode(), b""])
def test_lines_that_are_not_whole_say_nothing(file: Path, content: bytes) -> None:
    (file.parent / SUMS).write_bytes(content)
    assert known_sha256(file) == ""
    verify(file)


def test_a_damaged_file_is_told_with_a_command_that_removes_it_alone(file: Path) -> None:
    (file.parent / SUMS).write_text(f"{SUM}  {file.name}\n")
    file.write_bytes(b"weighty")
    with pytest.raises(WeightsError, match=rf"x y\.safetensors: damaged.*{SUM[:12]}") as caught:
        verify(file)
    assert shlex.split(str(caught.value).split(": ")[-1]) == ["rm", str(file)]
    file.write_bytes(DATA)
    verify(file)


def test_a_damaged_blob_is_removed_and_not_its_link(blob: Path) -> None:
    blob.resolve().write_bytes(b"weighty")
    with pytest.raises(WeightsError, match=f"rm {blob.resolve()}$"):
        verify(blob)


def test_a_file_is_read_once_until_it_changes(blob: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    monkeypatch.setattr(checksums, "sha256_of", lambda path: read.append(path) or sha256_of(path))
    verify(blob)
    verify(blob)
    assert len(read) == 1
    verify(blob, again=True)
    assert len(read) == 2
    os.utime(blob, ns=(1, 1))
    verify(blob)
    assert len(read) == 3


def test_a_damaged_file_is_not_remembered_as_whole(blob: Path) -> None:
    blob.resolve().write_bytes(b"weighty")
    for _ in range(2):
        with pytest.raises(WeightsError):
            verify(blob)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"x": 1}'])
def test_a_damaged_memory_costs_a_second_look_and_nothing_else(blob: Path, memory: Path, content: str) -> None:
    memory.parent.mkdir(parents=True)
    memory.write_text(content)
    verify(blob)
    assert SUM in memory.read_text()


def test_a_memory_that_can_not_be_written_is_done_without(blob: Path, memory: Path) -> None:
    memory.parent.parent.mkdir()
    memory.parent.write_text("a file in the place of the folder")
    verify(blob)
