"""--help stands in panels, shows every default, and keeps to the width of the terminal."""

from __future__ import annotations

import re

import pytest

from linfusion_cli.cli.app import _built as app_command
from linfusion_cli.cli.app import main
from linfusion_cli.cli.help_panels import first_line, in_words, preset_default
from linfusion_cli.cli.spelling import flags_of
from linfusion_cli.config.default_words import default_words
from linfusion_cli.config.option_row import COMMANDS
from linfusion_cli.config.options import options_of


def helped(command: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(columns))
    assert main([command, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_every_option_stands_in_the_section_of_its_panel(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = helped(command, 100, capsys, monkeypatch)
    for row in options_of(command):
        if not row.is_input:
            section = text.split(f"\n{row.panel}:\n")[1].split("\n\n")[0]
            assert flags_of(row, command)[0] in section, row.key


def test_an_upscale_says_its_own_size(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = " ".join(helped("upscale", 100, capsys, monkeypatch).split())
    assert "or 16k. Default: that of the image, times the scale." in words
    assert words.count("Default: by the shape of the image.") == 3  # width, height, aspect


@pytest.mark.parametrize(
    "words",
    [["distill"], ["evaluate"], ["landscapes", "train"], ["landscapes", "render"], ["batch"], ["fetch"], ["view"]],
    ids=" ".join,
)
def test_values_and_ranges_are_in_words(
    words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert main([*words, "--help"]) == 0
    text = capsys.readouterr().out.split("Examples")[0]
    assert not re.search(r"<\w+( range)?>|list\[|x>=|<=x|\[default|\[required|\binf\b|[{}]\.\.\.", text)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("How many.  [default: 2; 0<=x<=100]", "How many. From 0 to 100. Default: 2."),
        ("How many.  [x>=1; required]", "How many. At least 1. Required."),
        ("How many.  [x<=9]", "How many. At most 9."),
        ("How long.  [default: (no limit); x>=0.1]", "How long. At least 0.1. Default: no limit."),
        ("A list, [a; b]", "A list, [a; b]"),
        ("Nothing", "Nothing"),
    ],
)
def test_the_notes_of_typer_become_sentences(theirs: str, ours: str) -> None:
    assert in_words(theirs) == ours


def test_the_commands_are_described_whole(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    for words, inner in (([], app_command().commands), (["presets"], app_command().commands["presets"].commands)):
        assert main([*words, "--help"]) == 0
        text = " ".join(capsys.readouterr().out.split())
        assert all(f"{name} {first_line(command)}" in text for name, command in inner.items())


def test_defaults_of_presets_are_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    words = " ".join(helped("generate", 100, capsys, monkeypatch).split())
    for row in options_of("generate"):
        if row.preset_key:
            assert f"Default: {default_words(row).replace(chr(96), '')}." in words, row.key
    assert preset_default("overwrite") == preset_default("count") == ""


@pytest.mark.parametrize("columns", [60, 120])
def test_the_help_keeps_to_the_terminal(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = helped("generate", columns, capsys, monkeypatch).split("Examples:")[0]
    longest = max(len(line) for line in text.splitlines())
    assert columns - 40 < longest <= columns


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_sentences_below_the_options_fit_and_commands_stay_whole(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, command in app_command().commands.items():
        lines = helped(name, columns, capsys, monkeypatch).splitlines()
        epilog = [line.rstrip() for line in command.epilog.splitlines()]
        below = lines[lines.index("  Examples:") :]
        assert {line for line in epilog if line.startswith("  ")} <= {line[2:] for line in below}, name
        prose = [line for line in below if line.startswith("  ") and not line.startswith("   ")]
        long = [line for line in prose if len(line) > columns and len(line.split()) > 1]
        assert all(line.startswith("  linfusion ") for line in long), (name, long)
        words = " ".join(line for line in epilog if line != "\b").split()
        assert " ".join(below).split() == words, name
