"""How a word of the option table is typed. The command line and the command in an image's record write it by this.

It names no option: the words come from the table (config/option_rows.py), and those of a record from a stranger.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast


def dashed(word: str) -> str:
    """`--steps` for "steps", `-o` for "o"."""
    return f"-{word}" if len(word) == 1 else f"--{word}"


def switched_off(word: str) -> str:
    """`--no-overwrite` for "overwrite"."""
    return f"--no-{word}"


def word_of(typed: str) -> str:
    """ "clip-skip" for `--clip-skip`, "--clip_skip" and "clip_skip"."""
    return typed.removeprefix("--").replace("_", "-")


def typed(word: str, value: object) -> Iterator[str]:
    """The words of a command line that give an option a value: none for None, each value of a list with the flag."""
    if isinstance(value, list):
        for one in cast("list[object]", value):
            yield from typed(word, one)
    elif isinstance(value, bool):
        yield dashed(word) if value else switched_off(word)
    elif value is not None:
        text = str(value)
        # a value that looks like a flag must stay one word with its own
        yield from [f"{dashed(word)}={text}"] if text.startswith("-") else [dashed(word), text]
