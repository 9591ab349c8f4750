"""The default of an option in words, for --help and the pages of reference."""

from __future__ import annotations

from functools import cache
from typing import cast

from linfusion_cli.config.option_row import UPSCALE, OptionRow
from linfusion_cli.config.preset_files import DEFAULT_PRESET, read_preset, shipped_folder


def default_words(row: OptionRow, command: str = "") -> str:
    """The default of an option in Markdown: "`auto`", "as the preset says (landscape: `20`)", "what is free".

    The value is that of the preset without which a command is never run, DEFAULT_PRESET.
    """
    if command == UPSCALE and row.upscale_default_from:
        return row.upscale_default_from
    section, _, name = row.preset_key.partition(".")
    value = _defaults().get(section, {}).get(name)
    if value is not None:
        value = cast("int", value) - row.preset_offset if row.preset_offset else value
        return f"as the preset says ({DEFAULT_PRESET}: {value_words(value)})"
    if row.default is not None:
        return f"`{row.default}`" if isinstance(row.default, str) else ("on" if row.default else "off")
    return row.default_from or ("required" if row.is_required or row.argument else "none")


def value_words(value: object) -> str:
    """A preset's value as one would type it: "`20`", "`builtin:landscape`", "on"; "none" for an empty one."""
    if isinstance(value, bool):
        return "on" if value else "off"
    text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"`{text}`" if text not in ("", "none") else "none"


@cache
def _defaults() -> dict[str, dict[str, object]]:
    """The sections of presets/defaults.toml, with what DEFAULT_PRESET says instead."""
    found: dict[str, dict[str, object]] = {}
    for file in ("defaults.toml", f"{DEFAULT_PRESET}.toml"):
        data = read_preset(shipped_folder() / file, file).data
        for section, table in data.items():
            if isinstance(table, dict):
                found.setdefault(section, {}).update(table)
    return found
