"""`linfusion convert`: converts pickled weights to safetensors files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.cli.shared_options import QuietFlag
from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.convert.convert import Converted

EPILOG = """\b
Examples:
  linfusion convert v1-5-pruned-emaonly.ckpt
  linfusion convert style.pt -o embeddings/style.safetensors
  linfusion convert model-folder        (every pickle in it)

\b
A pickle can run any code when it is opened. Here a process without network reads nothing but tensors and plain values
from it; a file that asks for code is refused, and the code is named.
"""
USED_AS = {
    "lora": "--lora",
    "ip-adapter": "--ip-adapter",
    "controlnet": "--controlnet",
    "t2i-adapter": "--controlnet",
    "embedding": "--textual-inversion",
    "unet": "--unet",
    "vae": "--vae",
    "checkpoint": "--model",
    "image-encoder": "--ip-encoder",
}


def convert(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help=".ckpt, .pt, .pth or .bin files, or folders.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="The safetensors file. Default: beside the pickle."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that exists.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON line for each file, on stdout.")] = False,
    quiet: QuietFlag = False,
) -> None:
    """Make safetensors files of pickled weights, without running what is in them."""
    from linfusion_cli.convert.convert import convert as converted
    from linfusion_cli.convert.convert import pickles_in, target_of

    sources = [source for path in files for source in pickles_in(path)]
    if output is not None and len(sources) != 1:
        raise UsageError(f"{output}: names one file, there are {len(sources)} to convert", parameter="output")
    for source in sources:
        progress = _silent if quiet or as_json else _progress
        done = converted(source, output or target_of(source), progress, overwrite=overwrite)
        _tell(done, as_json=as_json, quiet=quiet)


def _silent(done_bytes: int, total_bytes: int) -> None:
    pass


def _progress(done_bytes: int, total_bytes: int) -> None:
    if sys.stderr.isatty():
        end = "\n" if done_bytes == total_bytes else ""
        typer.echo(f"\r  {done_bytes / 1e6:.0f} of {total_bytes / 1e6:.0f} MB{end}", err=True, nl=False)


def _tell(done: Converted, *, as_json: bool, quiet: bool) -> None:
    from linfusion_cli.cli.json_output import emit
    from linfusion_cli.cli.text import safe
    from linfusion_cli.cli.wrapping import say

    if as_json:
        said = {"source": str(done.source), "path": str(done.path), "kind": done.kind, "tensors": done.tensors}
        emit(sys.stdout, "converted", {**said, "ignored": list(done.ignored)})
    elif not quiet:
        use = f"; use it with {USED_AS[done.kind]} {done.path}" if done.kind in USED_AS else ""
        say(safe(f"{done.path}: {done.kind}, {done.tensors} tensors{use}"), err=True)
        if done.ignored:
            say(safe(f"  not weights, left out: {', '.join(done.ignored)[:200]}"), err=True)
