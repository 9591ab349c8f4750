"""--help: in panels, as wide as the terminal, with the range and the default of every option in words."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand, TyperGroup

from linfusion_cli.cli.wrapping import fitted
from linfusion_cli.config.default_words import default_words
from linfusion_cli.config.options import by_key

WIDEST_COLUMNS = 120
FULL_COLUMNS = 90  # a line of prose as long as this goes on in the next one
FIRST_PANEL, ARGUMENTS = "Options", "Arguments"
_NOTES = re.compile(r"\s*\[([^\[\]]*)\]$")  # what Typer adds to a help: "[default: 2; 0<=x<=100]"


class _FittedEpilog:
    """What stands below the options: prose is wrapped at the terminal's width, indented lines (commands) stay whole."""

    epilog: str | None

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the paragraphs of the epilog."""
        del ctx
        for paragraph in re.split(r"\n\s*\n", (self.epilog or "").strip()):
            formatter.write_paragraph()
            with formatter.indentation():
                for line in _sentences(paragraph):
                    columns = 0 if line.startswith(" ") else formatter.width - formatter.current_indent
                    for piece in fitted(line, columns, hanging=0):
                        formatter.write(f"{'':{formatter.current_indent}}{piece}\n")


def _sentences(paragraph: str) -> list[str]:
    """Its lines, each line of prose with those that it goes on in; "\\b", click's mark to wrap nothing, is left out."""
    lines: list[str] = []
    goes_on = False
    for line in paragraph.removeprefix("\b").strip("\n").split("\n"):
        is_prose = not line.startswith(" ")
        if goes_on and is_prose:
            lines[-1] += f" {line}"
        else:
            lines.append(line)
        goes_on = is_prose and len(line) >= FULL_COLUMNS
    return lines


class HelpCommand(_FittedEpilog, TyperCommand):
    """A command whose --help groups its options by their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then a section for each panel, in the order in which panels first come."""
        for name, records in sections(self, ctx).items():
            with formatter.section(name):
                formatter.write_dl(records)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """[OPTIONS], then the arguments: those that may be left out in brackets."""
        arguments = [one for one in self.get_params(ctx) if one.param_type_name == "argument"]
        names = [argument_name(one) if one.required else f"[{argument_name(one)}]" for one in arguments]
        return [self.options_metavar or "", *names]


class HelpGroup(_FittedEpilog, TyperGroup):
    """A group of commands whose --help says whole what each does, in several lines if need be."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Writes the first sentence of each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, first_line(command)) for name, command in self.commands.items()])

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the options, then the commands."""
        for name, records in sections(self, ctx).items():
            with formatter.section(name):
                formatter.write_dl(records)
        self.format_commands(ctx, formatter)


def first_line(command: Any) -> str:
    """What a command does, in a line."""
    return str(command.help or "").strip().split("\n")[0]


def argument_name(argument: Any) -> str:
    """ "PROMPT"; with dots where several may be given."""
    name = str(argument.metavar or argument.name.upper())
    return f"{name}..." if argument.nargs != 1 and not name.endswith("...") else name


def sections(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """What --help says of a command's parameters, by panel: the flags of each, and what it does."""
    panels: dict[str, list[tuple[str, str]]] = {ARGUMENTS: [], FIRST_PANEL: []}
    for parameter in command.get_params(context):
        if parameter.metavar is None and not getattr(parameter, "is_flag", False):
            parameter.metavar = _metavar(parameter, context)
        record = parameter.get_help_record(context)
        if record is None:
            continue
        is_argument = parameter.param_type_name == "argument"
        panel = getattr(parameter, "rich_help_panel", None) or FIRST_PANEL
        name = argument_name(parameter) if is_argument else record[0]
        default = preset_default(parameter.name or "", context.info_name or "") if _has_table(command) else ""
        panels.setdefault(ARGUMENTS if is_argument else panel, []).append((name, f"{in_words(record[1])}{default}"))
    return {name: records for name, records in panels.items() if records}


def _has_table(command: Any) -> bool:
    """Whether its options are those of the table, with the table's defaults."""
    return any(parameter.name == "preset" and parameter.rich_help_panel for parameter in command.params)


def _metavar(parameter: Any, context: Any) -> str:
    """A word for the value of a parameter that names none: its choices, N, X, PATH or TEXT."""
    kind = parameter.type_descriptor
    if parameter.param_type_name == "argument":
        return str(parameter.name.upper())
    if kind.is_choice:
        return str(parameter.display_type(context)).strip("<>")
    if kind.is_path:
        return "PATH"
    return {int: "N", float: "X"}.get(kind.annotation, "TEXT")


def in_words(text: str) -> str:
    """A help by Typer with its notes in sentences: "[default: 2; 0<=x<=100]" is "From 0 to 100. Default: 2."."""
    found = _NOTES.search(text)
    notes = found[1].split("; ") if found else []
    if not found or not all(re.match(r"default: |required$|.*x[<>]=|x<=", note) for note in notes):
        return text
    return " ".join(
        [text[: found.start()], *map(_sentence, sorted(notes, key=lambda note: note.startswith("default")))]
    )


def _sentence(note: str) -> str:
    if note.startswith("default: "):
        return f"Default: {note.removeprefix('default: ').strip('()')}."
    if note == "required":
        return "Required."
    if between := re.fullmatch(r"(.+)<=x<=(.+)", note):
        return f"From {between[1]} to {between[2]}."
    return f"At least {note[3:]}." if note.startswith("x>=") else f"At most {note[3:]}."


def preset_default(key: str, command: str = "") -> str:
    """ " Default: as the preset says (landscape: 20)." of an option that a preset sets, else ""."""
    row = by_key().get(key)
    if row is None or not row.preset_key:
        return ""
    return f" Default: {default_words(row, command).replace('`', '')}."
