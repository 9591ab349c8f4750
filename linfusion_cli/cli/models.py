"""`linfusion models`: lists the files in the model folders."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.errors import UsageError, WeightsError

if TYPE_CHECKING:
    from linfusion_cli.weights.model_folders import Listed

EPILOG = """\b
Examples:
  linfusion models ~/stable-diffusion-webui
  LINFUSION_MODELS=~/ComfyUI/models linfusion generate "a knight" --model dreamshaper --lora armour:0.8

\b
The folders are those that LINFUSION_MODELS names (several with ":" between them), else ~/.config/linfusion/models,
which may be a link. The layouts of AUTOMATIC1111 and ComfyUI are read. With such a folder, --model, --lora, --vae,
--controlnet, --ip-adapter, --ip-encoder, --textual-inversion and --linfusion take a file's name instead of its path.
"""


def models(
    folders: Annotated[
        list[Path] | None, typer.Argument(metavar="[FOLDER]...", help="Folders to list instead.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each, on stdout.")] = False,
) -> None:
    """List the models, LoRAs and other weights that can be called by name."""
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe
    from linfusion_cli.weights.model_folders import VARIABLE, listed, model_roots

    roots = tuple(folders or model_roots())
    if not roots:
        raise UsageError(f"no folder of models is configured. Name one: linfusion models FOLDER, or set {VARIABLE}")
    for item in listed(roots):
        size_bytes = _size_bytes(item.path)
        family = _family(item)
        if as_json:
            fields = {"kind": item.kind, "name": item.name, "family": family, "bytes": size_bytes}
            emit(sys.stdout, "model", {**fields, "path": str(item.path)})
        else:
            typer.echo(safe(f"{item.kind:18}  {item.name:32}  {family:8}  {size_bytes / 1e6:8.1f} MB  {item.path}"))


def _family(item: Listed) -> str:
    """The family of a model; "" for other kinds, "unusable" for one that linfusion can't run."""
    from linfusion_cli.weights.weight_file import family_of_model

    if item.kind != "model":
        return ""
    try:
        return family_of_model(item.path)
    except WeightsError:
        return "unusable"


def _size_bytes(path: Path) -> int:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return sum(file.stat().st_size for file in files)
