"""`linfusion inspect`: what a picture says about how it was made, and the command that makes it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

EPILOG = """\b
Examples:
  linfusion inspect lake.png
  linfusion inspect lake.png --json | jq .record.seed
"""


def inspect(
    file: Annotated[Path, typer.Argument(help="A PNG that linfusion made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Show how a picture was made, and the command that makes it again."""
    from linfusion_cli.output.record import command_of, read_record

    record = read_record(file)
    command = command_of(record)
    if as_json:
        typer.echo(json.dumps({"type": "record", "path": str(file), "command": command, "record": record}))
        return
    for line in record_lines(record):
        typer.echo(line)
    typer.echo(f"\nMake it again:\n  {command}")


def record_lines(record: Mapping[str, object], indent: str = "") -> list[str]:
    """A record as "key: value" lines, tables indented; it may be a stranger's, so every text is escaped."""
    from linfusion_cli.output.record import visible

    lines: list[str] = []
    for key, value in record.items():
        if isinstance(value, dict) and value:
            lines += [f"{indent}{visible(key)}:", *record_lines(cast("dict[str, object]", value), f"{indent}  ")]
        else:
            lines.append(f"{indent}{visible(key)}: {visible(value if isinstance(value, str) else json.dumps(value))}")
    return lines
