"""The reference page of all options: `python -m linfusion_cli.cli.reference > docs/reference.md`."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import OPTIONS

HEAD = """# Options

Every option of `generate`, `upscale`, `plan` and `batch`. This page is made from the table of options
(`linfusion_cli/config/option_rows.py`) by `make reference`; a test compares the two.

| flag | Python | preset key | in a prompt list | commands | what it does |
|---|---|---|---|---|---|"""


def reference() -> str:
    """The page, in Markdown."""
    return "\n".join([HEAD, *_lines(), ""])


def _lines() -> Iterator[str]:
    for row in OPTIONS:
        flags = ", ".join(f"`{flag}`" for flag in row.flags) + (f" {row.metavar}" if row.metavar else "")
        cells = (flags, f"`{row.key}`", _code(row.preset_key), _in_list(row), ", ".join(sorted(row.commands)), row.help)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _in_list(row: OptionRow) -> str:
    return ", ".join(f"`{name}`" for name in (row.key, *row.batch_aliases)) if row.in_batch_rows else ""


if __name__ == "__main__":
    typer.echo(reference(), nl=False)
