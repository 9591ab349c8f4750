"""Markdown tables on a terminal: as they are where they fit its width, else each row as a list of its values."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby

from linfusion_cli.cli.text import GAP, table

HEAD_LINES = 2  # the headings, and the line of dashes below them


def fitted_tables(lines: Iterable[str], columns: int) -> Iterator[str]:
    """The lines, with each table that is wider than `columns` as lists; 0 = as they are. Other lines stay."""
    for is_table, group in groupby(lines, lambda line: line.startswith("|")):
        found = list(group)
        too_wide = is_table and columns and max(map(len, found)) > columns
        yield from _as_lists(found, columns) if too_wide else found


def _as_lists(lines: list[str], columns: int) -> Iterator[str]:
    """Each row as its first cell, and below it a heading and a value per line; "-", no value, is left out."""
    title, *headings = _cells(lines[0])
    for line in lines[HEAD_LINES:]:
        name, *values = _cells(line)
        yield f"{name}: {title}" if title else name
        pairs = [[heading, value] for heading, value in zip(headings, values, strict=True) if value not in ("", "-")]
        for row in table(pairs, left=2, columns=columns - GAP) if pairs else ():
            yield " " * GAP + row


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]
