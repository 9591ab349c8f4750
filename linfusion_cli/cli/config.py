"""`linfusion config`: shows the user's own defaults, and where each comes from."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

EPILOG = """\b
Examples:
  linfusion config
  linfusion config --json
  LINFUSION_PRESET=sdxl-4k linfusion config

\b
The file holds one line for each option, by its name in docs/reference.md:
  preset = "sdxl-4k"
  max_memory = "8GB"
  lora = ["film.safetensors:0.6"]
What is typed beats a variable, a variable beats the file, and all beat the preset. Options that would not fit what was
typed are put aside: a size in the file beside --aspect, a preset beside --model.
"""


def config(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")] = False,
) -> None:
    """Show your own defaults, of config.toml and LINFUSION_ variables."""
    from pathlib import Path

    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe, table
    from linfusion_cli.cli.wrapping import say
    from linfusion_cli.config.toml_text import shown
    from linfusion_cli.config.user_defaults import config_file, unknown_variables, user_defaults

    found, path = user_defaults(), config_file()
    plain = {
        key: [str(item) if isinstance(item, Path) else item for item in one.value]
        if isinstance(one.value, list)
        else str(one.value)
        if isinstance(one.value, Path)
        else one.value
        for key, one in found.items()
    }
    if as_json:
        defaults = {key: {"value": plain[key], "source": one.source} for key, one in found.items()}
        there = {"file": str(path), "exists": path.exists()}
        emit(sys.stdout, "config", {**there, "defaults": defaults, "unknown": unknown_variables()})
        return
    say(safe(f"{path}{'' if path.exists() else ' (not there yet)'}"))
    rows = [[f"{key} = {shown(plain[key])}", f"# {one.source}"] for key, one in found.items()]
    for line in table(rows, left=2) if rows else ["no default is set; linfusion config --help shows how"]:
        say(safe(line))
    for note in notes_of_variables():
        say(note)


def notes_of_variables() -> list[str]:
    """A line for each variable that looks like a default and is none."""
    from linfusion_cli.cli.text import safe
    from linfusion_cli.config.user_defaults import unknown_variables

    return [
        safe(f"note: {name} is not an option and is not used{f'. Did you mean {close}?' if close else ''}")
        for name, close in unknown_variables().items()
    ]
