"""Parses TOML that somebody else may have written: in bounded time, with one kind of error for all that is odd."""

from __future__ import annotations

import re
from typing import Any

MOST_KEY_PARTS = 100  # of a dotted key: the library's time grows with their square
_PART = r"""(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_LONG_KEY = re.compile(rf"(?<![\w-])(?:{_PART}\.[ \t]*+){{{MOST_KEY_PARTS}}}")


def parse_toml(text: str) -> dict[str, Any]:
    """The table of a TOML text, of a size that the caller has bounded.

    Raises ValueError, tomllib.TOMLDecodeError among it, that says what is wrong and, where it is known, "line N": also
    for keys of more than MOST_KEY_PARTS parts, numbers of thousands of digits, and nesting beyond Python's stack.
    """
    import tomllib  # here: --help lists presets and reads none

    if found := _LONG_KEY.search(text):
        line = text.count("\n", 0, found.start()) + 1
        raise ValueError(f"a key has more than {MOST_KEY_PARTS} parts (at line {line})")
    try:
        return tomllib.loads(text)
    except RecursionError as error:
        raise ValueError("brackets are nested too deep") from error
    except tomllib.TOMLDecodeError:
        raise
    except ValueError as error:  # int() of thousands of digits
        raise ValueError("a number has too many digits") from error
