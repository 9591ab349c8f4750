"""A report's tables fit the terminal: a wide one is shown as lists, without losing a value."""

from __future__ import annotations

import pytest

from linfusion_cli.cli.terminal_tables import fitted_tables

REPORT = [
    "3 prompts",
    "| | prompt fidelity, % | Fréchet, whole | detail 2-4 px, dB |",
    "|---|---|---|---|",
    "| images | 87.5 (75.0 to 100.0) | - | -12.3 (-14.9 to -9.5) |",
    "| renders | 100.0 (100.0 to 100.0) | 0.12 | 1.9 (-4.4 to 6.7) |",
    "",
    "| fidelity, % | time | stars |",
    "|---|---|---|",
    "| images | 100.0 (100.0 to 100.0) | 66.7 (0.0 to 100.0) |",
    "done",
]


@pytest.mark.parametrize("columns", [0, 80, 200])
def test_a_table_that_fits_is_markdown(columns: int) -> None:
    assert list(fitted_tables(REPORT, columns)) == REPORT


@pytest.mark.parametrize("columns", [30, 40, 50])
def test_a_wide_table_is_shown_as_lists(columns: int) -> None:
    shown = list(fitted_tables(REPORT, columns))
    assert max(map(len, shown)) <= columns
    assert shown[:2] == ["3 prompts", "images"]
    assert shown[-1] == "done"
    assert "images: fidelity, %" in shown
    values = [word for line in REPORT for word in line.replace("|", " ").split() if word.strip("-")]
    assert set(values) <= set(" ".join(shown).split())
    assert "Fréchet, whole" not in "\n".join(shown[: shown.index("renders")]), "an empty value is left out"
