"""The comments of presets/defaults.toml, written from the tables of keys and options."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

from linfusion_cli.config.preset_keys import preset_key

COLUMNS = 120
HEADER = """# Every key that a preset may set, with its unit, its range and its default.
# A preset names only the keys that differ. It may start with `extends = "NAME"` to build on another preset.
# An option of the command beats the preset, and the preset beats this file.
# `make reference` writes these comments from the tables in linfusion_cli/config."""


def commented(text: str) -> str:
    """The sections, keys and values of a text of TOML, one line each, with the comment of each key above it."""
    return "\n".join([HEADER, *_lines(text)]) + "\n"


def _lines(text: str) -> Iterator[str]:
    """Yields the settings of a TOML text, each below its comment."""
    section = separator = ""
    for line in text.splitlines():
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section = header[1]
            yield f"\n{line}"
            separator = ""
        elif found := re.match(r"(\w+) = ", line):
            comment = preset_key(f"{section}.{found[1]}").comment
            yield separator + textwrap.fill(
                comment,
                COLUMNS,
                initial_indent="# ",
                subsequent_indent="# ",
                break_long_words=False,
                break_on_hyphens=False,
            )
            yield line
            separator = "\n"
