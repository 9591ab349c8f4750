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
