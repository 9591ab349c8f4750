"""`linfusion models`: lists the files in the model folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from linfusion_cli.weights.model_folders import Listed, ModelFolders

EPILOG = """\b
Examples:
  linfusion models ~/stable-diffusion-webui
  linfusion generate "a knight" --models ~/ComfyUI/models --model dreamshaper --lora armour:0.8
  LINFUSION_MODELS=~/ComfyUI/models linfusion models --json

\b
The folders are those of LINFUSION_MODELS (several with ":" between them), else of config.toml (models = ["FOLDER"]),
else ~/.config/linfusion/models, which may be a link. The layouts of AUTOMATIC1111 and ComfyUI are read; in a flat
folder the headers tell what each file is. The first column is the option that takes a name, here, in a list of prompts
and in a preset. Two files of one name are told apart by their folders: styles/ink.
"""


def models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders to list instead.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each, on stdout.")] = False,
) -> None:
    """List the models, LoRAs and other weights that can be called by name."""
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe, table
    from linfusion_cli.cli.wrapping import columns_of
    from linfusion_cli.config.options import by_key
    from linfusion_cli.weights.listed_kind import family_of_listed

    rows: list[list[str]] = []
    for item in _folders(folders).listed():
        family, size_bytes = family_of_listed(item.path, item.kind), _size_bytes(item)
        kind = by_key()[item.kind].name if item.kind else ""
        if as_json:
            fields = {"kind": kind, "name": item.name, "family": family, "bytes": size_bytes}
            emit(sys.stdout, "model", {**fields, "path": str(item.path)})
        else:
            size = f"{size_bytes / 1e6:8.1f} MB"
            rows.append([kind or "-", safe(item.name), family or "-", size, safe(str(item.path))])
    heads = ["kind", "name", "family", "       size", "path"]
    if rows:
        columns = columns_of(sys.stdout)
        for line in table([heads, *rows], left=5, columns=columns, drop=(heads[3], heads[2])):
            typer.echo(line)


def _folders(given: list[Path] | None) -> ModelFolders:
    """The folders to list. Raises UsageError if there is none, or one is not there; WeightsError for empty ones."""
    from linfusion_cli.config.model_names import configured_folders
    from linfusion_cli.config.user_defaults import config_file
    from linfusion_cli.weights.model_folders import VARIABLE, ModelFolders

    if gone := [folder for folder in given or () if not folder.is_dir()]:
        raise UsageError(f'"{gone[0]}": there is no such folder')
    found = ModelFolders(tuple(given)) if given else configured_folders()
    if not found.roots:
        where = f'set {VARIABLE}, or write models = ["FOLDER"] into {config_file()}'
        raise UsageError(f"no folder of models is configured. Name one: linfusion models FOLDER; or {where}")
    if not found.listed():
        raise WeightsError(f"{found.roots[0]}: no weights in it. Name a folder of A1111 or ComfyUI, or one with files")
    return found


def _size_bytes(item: Listed) -> int:
    files = [item.path] if item.path.is_file() else [file for file in item.path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
