"""The default of an option in words, for --help and the pages of reference."""

from __future__ import annotations

from functools import cache
from typing import cast

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.preset_files import read_preset, shipped_folder
from linfusion_cli.config.toml_text import shown


def default_words(row: OptionRow) -> str:
    """The default of an option in Markdown: "`auto`", "as the preset says: `25`", "what is free"."""
    section, _, name = row.preset_key.partition(".")
    value = _defaults().get(section, {}).get(name)
    if value is not None:
        value = cast("int", value) - row.preset_offset if row.preset_offset else value
        return f"as the preset says: `{shown(value)}`"
    if row.default is not None:
        return f"`{row.default}`" if isinstance(row.default, str) else ("on" if row.default else "off")
    return row.default_from or ("required" if row.is_required or row.argument else "none")


@cache
def _defaults() -> dict[str, dict[str, object]]:
    """The sections of presets/defaults.toml."""
    data = read_preset(shipped_folder() / "defaults.toml", "defaults.toml").data
    return {section: dict(table) for section, table in data.items() if isinstance(table, dict)}
