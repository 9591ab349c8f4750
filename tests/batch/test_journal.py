"""A journal that survives its writer, and never says more than the files do."""

from __future__ import annotations

import errno
import io
import os
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch import journal as journal_module
from linfusion_cli.batch.journal import Flags, Journal
from linfusion_cli.cli.app import main
from linfusion_cli.errors import OutputError


def path_of(folder: Path) -> Path:
    return folder / ".linfusion" / "journal.jsonl"


def test_flags_of_the_last_run_are_kept(tmp_path: Path) -> None:
    flags = Flags({"size": "64x64", "loras": ["a", "b"]}, "{slug}", "")
    with Journal(tmp_path) as journal:
        journal.keep_flags(Flags({}, "{id}", "cards"))
        journal.keep_flags(flags)
        journal.keep_flags(flags)
    lines = (tmp_path / ".linfusion" / "journal.jsonl").read_text().splitlines()
    assert Journal(tmp_path).flags == flags
    assert len(lines) == 2


def test_what_is_added_is_read_again(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add("failed", id="a", error="no")
        journal.add("done", id="b", name="b.png", size_bytes=3, modified_ns=4)
        journal.numbers(["x", "y"])
        journal.keep_numbers(["x", "y"])
        journal.keep_numbers(["x", "y"])
    again = Journal(tmp_path)
    assert (again.failed, again.done["b"].name, dict(again.numbers(["z", "y", "x"]))) == (
        {"a": "no"},
        "b.png",
        {"x": 1, "y": 2, "z": 3},
    )
    assert path_of(tmp_path).read_text().count('numbers"') == 2


@given(
    lines=st.lists(
        st.sampled_from([b"", b"{}", b"x" * 99, b'{"event": "x"}', b"FAILED", b'"event": "done"']), max_size=12
    ),
    piece=st.integers(1, 40),
    ended=st.booleans(),
)
def test_every_line_of_an_event_is_found_whatever_is_between(lines: list[bytes], piece: int, *, ended: bool) -> None:
    failed = [
        b'{"event": "failed", "id": "%d", "error": "no"}' % at if line == b"FAILED" else line
        for at, line in enumerate(lines)
    ]
    text = b"\n".join(failed) + b"\n" * ended
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(journal_module, "PIECE_BYTES", piece)
        found = list(journal_module._lines(io.BytesIO(text)))
    assert found == [line for line in text.split(b"\n") if re.search(b'"event": "(done|failed)', line)]


def test_a_line_without_an_end_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "PIECE_BYTES", 10)
    monkeypatch.setattr(journal_module, "LINE_BYTES", 100)
    good = b'{"event": "failed", "id": "a", "error": "no"}\n'
    path_of(tmp_path).parent.mkdir()
    path_of(tmp_path).write_bytes(b'{"event": "failed", "id": "b", "error": "' + b"x" * 500 + b'"}\n' + good)
    assert set(Journal(tmp_path).failed) == {"a"}


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add("failed", id="a", error="no")
    with path_of(tmp_path).open("ab") as file:
        file.write(b'{"event": "failed", "id": "torn", "err')
    with Journal(tmp_path) as journal:
        journal.add("failed", id="b", error="no")
    assert set(Journal(tmp_path).failed) == {"a", "b"}


@pytest.mark.parametrize(
    "junk",
    [
        b"\xff\xfe\n",
        b"[]\n3\nnull\n",
        b'{"event": "done", "id": "a", "name": "../x", "size_bytes": 1, "modified_ns": 1}\n',
        b"\0",
    ],
)
def test_junk_in_a_journal_is_no_image(tmp_path: Path, junk: bytes) -> None:
    path_of(tmp_path).parent.mkdir()
    path_of(tmp_path).write_bytes(junk)
    assert Journal(tmp_path).done == {}


@pytest.mark.parametrize("call", ["write", "fsync"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_journal_that_can_not_be_written_ends_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    with Journal(tmp_path) as journal, monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OutputError, match=os.strerror(code)):
            journal.add("done", id="a", name="a.png", size_bytes=1, modified_ns=1)


def test_no_token_gets_into_a_journal(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.add("failed", id="a", error="401 for https://me:secret@host/x with hf_abcdefghijKLMNOP")
    text = path_of(tmp_path).read_text()
    assert "hf_abc" not in text
    assert "me:secret" not in text
    assert "[secret]" in text


def test_a_planted_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path_of(tmp_path).parent.mkdir()
    path_of(tmp_path).symlink_to(victim)
    with pytest.raises(OutputError, match="journal"):
        Journal(tmp_path).__enter__()
    assert victim.read_text() == "precious"


def test_numbers_of_a_long_list_are_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "NUMBERS_PER_LINE", 3)
    ids = [f"id{number}" for number in range(10)]
    with Journal(tmp_path) as journal:
        given = dict(journal.numbers(ids))
        journal.keep_numbers(ids)
    lines = path_of(tmp_path).read_text().splitlines()
    assert sum('"numbers"' in line for line in lines) >= 4
    assert Journal(tmp_path).numbers(ids) == given


def test_a_line_beyond_the_limit_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 100 MB with 8 million values took 3 s as long as it was read up to 64 MiB."""
    path_of(tmp_path).parent.mkdir()
    odd = b'{"event": "numbers", "ids": [' + b'"x", ' * 4000 + b'"x"]}\n'
    path_of(tmp_path).write_bytes(b'{"event": "failed", "id": "a", "error": "no"}\n' + odd)
    monkeypatch.setattr(journal_module, "LINE_BYTES", 1000)
    monkeypatch.setattr(journal_module, "PIECE_BYTES", 300)
    parsed: list[int] = []
    parse = journal_module.parse_json
    monkeypatch.setattr(
        journal_module, "parse_json", lambda line, *about: (parsed.append(len(line)), parse(line, *about))[1]
    )
    assert Journal(tmp_path).failed == {"a": "no"}
    assert max(parsed) <= 1000 + 2 * 300


def test_a_part_reads_no_journal_that_knows_none_of_its_tasks(tmp_path: Path) -> None:
    """Those of other parts of as many; but of another number of parts, of clusters and of the whole list it does."""
    for shard in ("", "-0-of-8", "-1-of-8", "-1-of-4", "-on-host-0"):
        with Journal(tmp_path, shard, read=False) as journal:
            journal.add("failed", id=shard or "whole", error="no")
            journal.numbers([shard])
            journal.keep_numbers([shard])
    part = Journal(tmp_path, "-1-of-8", other_parts=False)
    assert set(part.failed) == {"whole", "-1-of-8", "-1-of-4", "-on-host-0"}
    assert set(Journal(tmp_path, "-1-of-8").failed) == {*part.failed, "-0-of-8"}
    assert set(Journal(tmp_path, other_parts=False).failed) == set(Journal(tmp_path).failed)


def test_a_batch_without_prompts_in_its_files_resumes_and_knows_its_images(
    batch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    batch.write("zebra one FAULT:parent", "zebra two --negative xylophon")
    flags = ("--store-prompt", "no", "--negative", "quagga", "--log-file", "out.log")

    def ended(*words: str) -> int:  # in a process of its own, which the prompt kills
        with batch.start(*words) as process:
            process.communicate()
        return process.returncode

    assert ended(*flags) != 0
    words = (b"zebra", b"xylophon", b"quagga")

    def held() -> set[bytes]:
        files = [path for path in batch.root.rglob("*") if path.is_file() and path.parent.name != "faults"]
        texts = [bytes(path.relative_to(batch.root)) + path.read_bytes() for path in files if path.name != "list.txt"]
        return {word for word in words for text in texts if word in text}

    assert list((batch.folder / ".linfusion").glob("*/step.safetensors"))
    assert held() == set()
    assert ended(*flags) == 0
    assert held() == set()
    assert len(list(batch.folder.glob("picture-*.png"))) == 2
    batch.write("zebra one FAULT:parent")
    code, out, _ = batch.run("--status", "--negative", "quagga")
    assert (code, "1 done" in out) == (0, True)
    monkeypatch.chdir(batch.root)
    assert main(["batch", "list.txt", "-o", "out", "--status"]) == 2
    assert "give --negative-prompt" in capsys.readouterr().err
