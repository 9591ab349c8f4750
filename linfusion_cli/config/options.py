"""The table of options: flags, preset keys, batch keys, records and the reference page follow it."""

from __future__ import annotations

from collections.abc import Iterator

from linfusion_cli.config.model_option_rows import MODEL_ROWS
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.option_rows import FILE_ROWS, IMAGE_ROWS, RUN_ROWS

OPTIONS: tuple[OptionRow, ...] = (*IMAGE_ROWS, *FILE_ROWS, *MODEL_ROWS, *RUN_ROWS)  # in the order of --help


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
