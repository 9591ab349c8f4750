"""The table of options: flags, preset keys, batch keys, records and the reference page follow it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from linfusion_cli.config.model_option_rows import MODEL_ROWS
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.option_rows import FILE_ROWS, IMAGE_ROWS, RUN_ROWS


def _in_panel(panel: str, rows: Iterable[OptionRow]) -> Iterator[OptionRow]:
    """The rows; those without a panel of their own in this one."""
    return (row if row.panel else replace(row, panel=panel) for row in rows)


OPTIONS: tuple[OptionRow, ...] = (  # in the order of --help
    *_in_panel("The image", IMAGE_ROWS),
    *_in_panel("The file", FILE_ROWS),
    *_in_panel("The model", MODEL_ROWS),
    *_in_panel("How the work is done", RUN_ROWS),
)


def all_rows() -> tuple[OptionRow, ...]:
    """Every row, in the order of --help."""
    return OPTIONS


def by_key() -> dict[str, OptionRow]:
    """The rows by the field of Request."""
    return {row.key: row for row in OPTIONS}


def by_preset_key() -> dict[str, OptionRow]:
    """The rows that a preset can set, by the preset's key."""
    return {row.preset_key: row for row in OPTIONS if row.preset_key}


def options_of(command: str) -> Iterator[OptionRow]:
    """The rows that a command offers by name."""
    return (row for row in OPTIONS if command in row.commands and not row.argument)
