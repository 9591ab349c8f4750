"""The reference page is what the table of options makes, and a new row is in it."""

from pathlib import Path

import pytest

from linfusion_cli.cli import reference
from linfusion_cli.config import options
from linfusion_cli.config.option_row import OptionRow

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_page_is_what_the_table_makes() -> None:
    assert PAGE.read_text() == reference.reference(), "make reference"


def test_a_new_row_is_a_new_line(monkeypatch: pytest.MonkeyPatch) -> None:
    row = OptionRow(key="sharpness", kind=float, help="How sharp.", preset_key="sampling.sharp")
    monkeypatch.setattr(options, "OPTIONS", (*options.OPTIONS, row))
    assert "| `--sharpness` | `sharpness` | `sampling.sharp` | `sharpness` |" in reference.reference()


def test_a_switch_is_shown_with_what_switches_it_off() -> None:
    assert "| `--keep-projections/--no-keep-projections` |" in reference.reference()


def test_every_option_says_what_it_is_where_nobody_gives_it() -> None:
    words = {row.key: reference.default_words(row) for row in options.OPTIONS}
    assert all(words.values())
    assert words["steps"] == "as the preset says: `25`"
    assert (words["device"], words["overwrite"], words["prompt"]) == ("`auto`", "off", "required")
    assert words["max_memory"] == "what is free"


def test_a_default_in_words_is_that_of_the_defaults() -> None:
    """--help reads no preset: where it names a preset's value, it has to be the one of presets/defaults.toml."""
    for row in options.OPTIONS:
        if row.preset_key and row.default_from and row.default_from != "as the preset says":
            shown = reference.default_words(row).removeprefix("as the preset says: ").strip('`[]"')
            same = shown == row.default_from or float(shown) == float(row.default_from)
            assert same, row.key
