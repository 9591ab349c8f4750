"""Values as TOML writes them, safe to print."""

from __future__ import annotations

from typing import cast


def shown(value: object) -> str:
    """A value as TOML writes it, with everything that a terminal could act on escaped."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return '"' + "".join(_escaped(letter) for letter in value) + '"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(shown(item) for item in cast("list[object]", value)) + "]"
    return str(value)


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if letter.isprintable():
        return letter
    return f"\\u{ord(letter):04x}" if ord(letter) < 0x10000 else f"\\U{ord(letter):08x}"
