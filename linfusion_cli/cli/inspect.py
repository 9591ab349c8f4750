"""`linfusion inspect`: shows the record of an image, and the command that makes it again."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, cast

import typer

from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.spelling import words_of_pixels
from linfusion_cli.cli.wrapping import say
from linfusion_cli.errors import OutputError, UsageError, option
from linfusion_cli.flag_words import dashed, word_of
from linfusion_cli.redaction import redacted

MOST_LEFT_OUT = 20  # that are shown
EPILOG = """\b
Examples:
  linfusion inspect lake.png
  linfusion inspect lake.png --json | jq .record.seed
  linfusion inspect lake.png --plot memory.svg
"""


def inspect(
    file: Annotated[Path, typer.Argument(help="An image that linfusion made, or one of A1111, ComfyUI or InvokeAI.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the memory of each phase into this SVG file, too.")
    ] = None,
    memory_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot this file of --memory-log instead of the record's phases.")
    ] = None,
) -> None:
    """Show how an image was made, and the command that makes it again."""
    if plot is not None or memory_log is not None:
        _plot(file, plot, memory_log)
    from linfusion_cli.output.foreign_record import read_foreign
    from linfusion_cli.output.metadata import PLACEHOLDERS, command_of, not_stored, read_record, visible

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
        say(redacted(line))
    say(redacted(f"\nMake it again:\n  {command}"))
    if missing := not_stored(record):
        texts = " and ".join(f"the {name.replace('_', ' ')} (in place of {PLACEHOLDERS[name]})" for name in missing)
        say(f"Not stored, as --store-prompt no asked, and yours to put in: {texts}")
    if left_out:
        say(f"Left out, because an image must not name files and models unasked: {visible(', '.join(left_out))}")


def _plot(file: Path, plot: Path | None, memory_log: Path | None) -> None:
    """Writes the drawing. Raises UsageError for a log or a record without memory, OutputError for the drawing."""
    from linfusion_cli.files import read_regular, write_atomically
    from linfusion_cli.output.metadata import read_record
    from linfusion_cli.viewer.memory_plot import LOG_BYTES, history_of_log, history_of_record, memory_svg

    if plot is None:
        raise UsageError("is drawn by ", option("plot"), ": give both", parameter="memory_log")
    if plot.suffix.lower() != ".svg":
        raise UsageError(f'"{plot}": a plot is an SVG file. Nearest: {plot.stem or "memory"}.svg', parameter="plot")
    try:
        if memory_log is None:
            history = history_of_record(read_record(file))
        else:
            history = history_of_log(read_regular(memory_log, LOG_BYTES).decode("utf-8", "replace"))
    except OSError as error:
        raise UsageError(f"{memory_log}: can't be read ({error.strerror})", parameter="memory_log") from error
    except ValueError as error:
        raise UsageError(f"{memory_log or file}: {error}", parameter="memory_log" if memory_log else "") from error
    try:
        write_atomically(plot, memory_svg(history, f"Memory of {file.name}"))
    except OSError as error:
        raise OutputError(f"{plot}: can't be written ({error.strerror})", parameter="plot") from error


def _show_foreign(file: Path, record: Mapping[str, object], *, as_json: bool) -> None:
    """Shows the record of an image that another program made."""
    from linfusion_cli.config.sampler_names import sampling_left_out, sampling_options
    from linfusion_cli.output.foreign_record import left_out_of_nearest, nearest_command
    from linfusion_cli.output.metadata import visible

    names = [str(record.get(key) or "") for key in ("sampler", "schedule")]
    command = nearest_command(record, sampling_options(*names))
    left_out = [*sampling_left_out(*names), *left_out_of_nearest(record)]
    if as_json:
        emit(
            sys.stdout,
            "foreign_record",
            {"path": str(file), "command": command, "left_out": left_out, "record": record},
        )
        return
    for line in record_lines(record):
        say(redacted(line))
    say(redacted(f"\nNearest with linfusion (add --preset and --model of your own):\n  {command}"))
    if left_out:
        more = f", and {len(left_out) - MOST_LEFT_OUT} more" if len(left_out) > MOST_LEFT_OUT else ""
        say(redacted(visible(f"Not in the command: {', '.join(left_out[:MOST_LEFT_OUT])}{more}")))


def left_out_of_command(record: Mapping[str, object]) -> list[str]:
    """The overrides of a record that are no part of the command, as flags."""
    overrides = record.get("overrides")
    names = cast("dict[str, object]", overrides) if isinstance(overrides, dict) else {}
    allowed = words_of_pixels()
    return sorted(dashed(word) for name in names if (word := word_of(name)) not in allowed)


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
