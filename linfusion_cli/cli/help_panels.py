"""--help of a command with many options: in panels, as wide as the terminal, with every default."""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand

from linfusion_cli.config.default_words import default_words
from linfusion_cli.config.options import by_key

WIDEST_COLUMNS = 120
FIRST_PANEL = "Options"


class PanelCommand(TyperCommand):
    """A command whose --help groups the options of the table by their panels."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Writes the arguments, then a section for each panel, in the order in which panels first come."""
        for name, records in sections(self, ctx).items():
            with formatter.section(name):
                formatter.write_dl(records)


def sections(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """What --help says of a command's parameters, by panel: the flags of each, and what it does."""
    panels: dict[str, list[tuple[str, str]]] = {"Arguments": [], FIRST_PANEL: []}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is None:
            continue
        panel = getattr(parameter, "rich_help_panel", None) or FIRST_PANEL
        name = "Arguments" if parameter.param_type_name == "argument" else panel
        default = preset_default(parameter.name or "") if isinstance(command, PanelCommand) else ""
        panels.setdefault(name, []).append((record[0], f"{record[1]}{default}"))
    return {name: records for name, records in panels.items() if records}


def preset_default(key: str) -> str:
    """ " Default: as the preset says: 20." of an option that a preset sets, else ""."""
    row = by_key().get(key)
    if row is None or not row.preset_key:
        return ""
    return f" Default: {default_words(row).replace('`', '')}."
