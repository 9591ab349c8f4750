"""The reference page is what the table of options makes, and a new row is in it."""

from pathlib import Path

import pytest

from linfusion_cli.cli import reference
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import OPTIONS

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def test_the_page_is_what_the_table_makes() -> None:
    assert PAGE.read_text() == reference.reference(), "make reference"


def test_a_new_row_is_a_new_line(monkeypatch: pytest.MonkeyPatch) -> None:
    row = OptionRow(key="sharpness", kind=float, flags=("--sharpness",), help="How sharp.", preset_key="sampling.sharp")
    monkeypatch.setattr(reference, "OPTIONS", (*OPTIONS, row))
    assert "| `--sharpness` | `sharpness` | `sampling.sharp` | `sharpness` |" in reference.reference()
