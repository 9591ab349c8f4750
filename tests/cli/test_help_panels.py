"""--help stands in panels, shows every default, and keeps to the width of the terminal."""

from __future__ import annotations

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.cli.help_panels import preset_default
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
