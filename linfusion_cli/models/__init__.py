"""The models that ship inside."""

from __future__ import annotations

from pathlib import Path

PREFIX = "builtin:"


def builtin_folder(place: str) -> Path | None:
    """The folder of a place such as "builtin:landscape"; None if the place is no built-in model."""
    if not place.startswith(PREFIX):
        return None
    return Path(__file__).parent / place.removeprefix(PREFIX)
