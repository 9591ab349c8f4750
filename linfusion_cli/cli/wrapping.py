"""Text that fits the terminal: prose is wrapped between words, and what people copy stays on one line."""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Iterable
from typing import TextIO

import typer

NAMES = (
    *("batch", "config", "convert", "distill", "doctor", "evaluate", "fetch", "generate", "inspect", "landscapes"),
    *("models", "plan", "presets", "sheet", "upscale", "view"),
)
# A command, up to its end or to the mark that ends its part of the sentence.
_COMMAND = re.compile(
    rf"\b(?:linfusion (?:{'|'.join(NAMES)})|pip install|mkdir|curl|hf auth|source)\b.*?(?=[;,)](?:\s|$)| \(| or |$)"
)
_KEPT = "\0"  # stands for a space that is no place to break


def columns_of(stream: TextIO) -> int:
    """The width of the terminal behind a stream (COLUMNS beats it); 0, no limit, for files and pipes."""
    if not stream.isatty():
        return 0
    given = os.environ.get("COLUMNS", "")
    if given.isdecimal() and int(given):
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        return 0


def fitted(line: str, columns: int, hanging: int = 2) -> list[str]:
    """The line in pieces of at most `columns` characters; 0 = as it is. Longer words and commands stay whole.

    hanging: how far the pieces after the first are indented, beyond the line's own indentation
    """
    if not columns or len(line) <= columns:
        return [line]
    indent = " " * (len(line) - len(line.lstrip(" ")))
    kept = _COMMAND.sub(lambda found: found[0].replace(" ", _KEPT), line.strip(" "))
    pieces = textwrap.wrap(
        kept,
        columns,
        initial_indent=indent,
        subsequent_indent=indent + " " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [piece.replace(_KEPT, " ") for piece in pieces] or [line]


def say(text: str, *, err: bool = False) -> None:
    """Prints lines of text on stdout, or on stderr, that fit the terminal there."""
    columns = columns_of(sys.stderr if err else sys.stdout)
    for line in text.split("\n"):
        for piece in fitted(line, columns):
            typer.echo(piece, err=err)


def print_lines(lines: Iterable[str], stream: TextIO) -> None:
    """Prints lines on a stream that fit the terminal there, and flushes it."""
    columns = columns_of(stream)
    for line in lines:
        for piece in fitted(line, columns):
            print(piece, file=stream)
    stream.flush()
