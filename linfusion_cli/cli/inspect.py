"""`linfusion inspect`: what an image says about how it was made, and the command that makes it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.spelling import words_of_pixels
from linfusion_cli.redaction import redacted

EPILOG = """\b
Examples:
  linfusion inspect lake.png
  linfusion inspect lake.png --json | jq .record.seed
"""


def inspect(
    file: Annotated[Path, typer.Argument(help="A PNG that linfusion made, or an image of A1111, ComfyUI or InvokeAI.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Show how an image was made, and the command that makes it again."""
    from linfusion_cli.output.foreign_record import read_foreign
    from linfusion_cli.output.metadata import command_of, read_record, visible

    if (foreign := read_foreign(file)) is not None:
        _show_foreign(file, foreign, as_json=as_json)
        return
    record = read_record(file)
    command = command_of(record, words_of_pixels())
    left_out = left_out_of_command(record)
    if as_json:
        emit(sys.stdout, "record", {"path": str(file), "command": command, "left_out": left_out, "record": record})
        return
    for line in record_lines(record):
        typer.echo(redacted(line))
    typer.echo(redacted(f"\nMake it again:\n  {command}"))
    if left_out:
        typer.echo(f"Left out, because an image must not name files and models unasked: {visible(', '.join(left_out))}")


def _show_foreign(file: Path, record: Mapping[str, object], *, as_json: bool) -> None:
    """Shows what another program's image says."""
    from linfusion_cli.output.foreign_record import nearest_command

    command = nearest_command(record)
    if as_json:
        emit(sys.stdout, "foreign_record", {"path": str(file), "command": command, "record": record})
        return
    for line in record_lines(record):
        typer.echo(redacted(line))
    typer.echo(redacted(f"\nNearest with linfusion (add --preset and --model of your own):\n  {command}"))


def left_out_of_command(record: Mapping[str, object]) -> list[str]:
    """The overrides of a record that are no part of the command, as flags."""
    overrides = record.get("overrides")
    names = cast("dict[str, object]", overrides) if isinstance(overrides, dict) else {}
    allowed = words_of_pixels()
    return sorted(f"--{word}" for name in names if (word := name.removeprefix("--").replace("_", "-")) not in allowed)


def record_lines(record: Mapping[str, object], indent: str = "") -> list[str]:
    """A record as "key: value" lines: tables indented, empty values left out, a stranger's texts escaped."""
    from linfusion_cli.output.metadata import visible

    lines: list[str] = []
    for key, value in record.items():
        head = f"{indent}{visible(key)}:"
        if isinstance(value, dict) and value:
            lines += [head, *record_lines(cast("dict[str, object]", value), f"{indent}  ")]
        elif isinstance(value, list) and any(isinstance(item, dict) for item in cast("list[object]", value)):
            lines += [head, *(f"{indent}  {visible(_in_one_line(item))}" for item in cast("list[object]", value))]
        elif value not in ("", [], {}, None):
            lines.append(f"{head} {visible(value if isinstance(value, str) else json.dumps(value))}")
    return lines


def _in_one_line(item: object) -> str:
    """An entry of a list, without the braces and quotes of JSON where it is a table."""
    pairs = cast("dict[str, object]", item).items() if isinstance(item, dict) else []
    return ", ".join(f"{key} {_short(value)}" for key, value in pairs) or json.dumps(item)


def _short(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return value if isinstance(value, str) else json.dumps(value)
