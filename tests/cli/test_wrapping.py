"""Prose is wrapped between words; commands and long words stay whole; files and pipes get whole lines."""

from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.main import get_command

from linfusion_cli.cli import wrapping
from linfusion_cli.cli.app import app
from linfusion_cli.cli.text import table
from linfusion_cli.cli.wrapping import NAMES, columns_of, fitted, print_lines, say

NOTE = "note: weights are not on this machine: owner/name. Fetch them with: linfusion fetch sdxl-4k --lora owner/other"


class Terminal(io.StringIO):
    """A terminal that does not know its width."""

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        raise OSError("not a descriptor")


@given(st.text(alphabet="ab \u00e9-", max_size=200), st.integers(10, 130), st.integers(0, 6))
def test_no_word_is_lost_and_no_piece_is_too_long(line: str, columns: int, hanging: int) -> None:
    pieces = fitted(line, columns, hanging)
    assert " ".join(pieces).split() == line.split()
    assert all(len(piece) <= columns or len(piece.split()) == 1 for piece in pieces)


def test_commands_stay_whole() -> None:
    pieces = fitted(NOTE, 40)
    assert pieces[-1] == "  linfusion fetch sdxl-4k --lora owner/other"
    assert max(map(len, pieces[:-1])) <= 40


def test_a_command_in_a_sentence_ends_where_its_part_ends() -> None:
    pieces = fitted("List them: linfusion presets list, or say which one of all those you have in mind here", 30)
    assert pieces[:2] == ["List them:", "  linfusion presets list, or"]


def test_every_command_is_known() -> None:
    root = get_command(app)
    assert set(NAMES) == set(root.commands)  # type: ignore[attr-defined]


def test_files_and_pipes_have_no_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    assert columns_of(io.StringIO()) == 0
    assert columns_of(Terminal()) == 20
    monkeypatch.setenv("COLUMNS", "0")
    assert columns_of(Terminal()) == 0
    assert fitted(NOTE, 0) == [NOTE]


def test_what_is_printed_fits(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(wrapping, "columns_of", lambda stream: 30)
    say("one two three four five six seven eight", err=True)
    assert capsys.readouterr().err == "one two three four five six\n  seven eight\n"
    stream = io.StringIO()
    print_lines(["a " * 20], stream)
    assert max(map(len, stream.getvalue().splitlines())) <= 30


ROWS = [["stage", "pixels", "steps", "time"], ["0", "15360x8640", "20", "19 min 24 s"]]


@pytest.mark.parametrize(("columns", "heads"), [(0, 4), (60, 4), (30, 3), (22, 2)])
def test_a_table_loses_columns_where_it_is_too_wide(columns: int, heads: int) -> None:
    lines = table(ROWS, left=2, columns=columns, drop=("steps", "pixels"))
    assert len(re.split(r" {2,}", lines[0])) == heads
    assert not columns or max(map(len, lines)) <= columns


def test_the_last_column_is_wrapped_below_itself() -> None:
    lines = table([["name", "what it is"], ["a", "one two three four five six"]], left=2, columns=26)
    assert lines == ["name  what it is", "a     one two three four", "      five six"]


def test_the_last_column_goes_below_its_row_where_little_is_left_for_it() -> None:
    lines = table([["name", "what it is"], ["sd15-16k", "one two three four five"]], left=2, columns=20)
    assert lines == ["name", "  what it is", "sd15-16k", "  one two three four", "  five"]
