"""`linfusion view`: serves a page that zooms an image of any size and shows its record."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from linfusion_cli.cli.json_output import emit
from linfusion_cli.cli.spelling import words_of_pixels
from linfusion_cli.errors import LinfusionError, UsageError
from linfusion_cli.redaction import redacted

if TYPE_CHECKING:
    from linfusion_cli.viewer.content import Content

HIGHEST_PORT = 65535
EPILOG = """\b
Examples:
  linfusion view lake.png
  linfusion view lake.png --stages stages --memory-log memory.jsonl
  linfusion view lake.png --preview now.jpg            (beside: linfusion generate ... -o lake.png --preview now.jpg)
  linfusion view lake.png --export lake-page           (then open lake-page/index.html, or put it on a web server)

\b
The page is served to this machine alone, until Ctrl-C. On another machine: ssh -L 8080:127.0.0.1:8080 HOST, and
linfusion view lake.png --port 8080 --no-browser there. Tiles are made once and kept in the user's cache.
"""


def view(
    image: Annotated[Path, typer.Argument(metavar="FILE", help="A PNG, JPEG, TIFF, .dzi or other image.")],
    stages: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Show the images of this folder of --stages side by side.")
    ] = None,
    memory_log: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Plot the memory in this file of --memory-log.")
    ] = None,
    preview: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Show this file of --preview, and FILE once it is there.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Write the page as files into a new folder, and stop.")
    ] = None,
    port: Annotated[int, typer.Option(metavar="N", help="Serve at this port. 0 = one that is free.")] = 0,
    browser: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print where the page is as JSON.")] = False,
) -> int:
    """Look at an image of any size in the browser: zoom, record, memory, stages."""
    _check(image, stages, preview, port)
    from linfusion_cli.viewer.content import Content, Shown
    from linfusion_cli.viewer.export import export as write_page

    shown = Shown(
        image=image,
        stages_folder=stages,
        memory_log=memory_log,
        preview=preview,
        record=lambda: _record(image),
    )
    content = Content(shown, _cache())
    if export is None:
        return _serve(content, port, browser=browser, as_json=as_json)
    count = write_page(content, export)
    page = export / "index.html"
    if as_json:
        emit(sys.stdout, "view", {"path": str(page), "files": count})
    else:
        typer.echo(str(page))
    return 0


def _check(image: Path, stages: Path | None, preview: Path | None, port: int) -> None:
    if not 0 <= port <= HIGHEST_PORT:
        raise UsageError(
            f"{port}: write a whole number from 0 to {HIGHEST_PORT}. Nearest: {min(max(port, 0), HIGHEST_PORT)}",
            parameter="port",
        )
    if stages is not None and not stages.is_dir():
        raise UsageError(f'"{stages}": there is no such folder', parameter="stages_folder")
    if not image.exists() and preview is None:
        raise UsageError(f"{image}: there is no such file")


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("linfusion") / "view"


def _record(image: Path) -> Mapping[str, Any] | None:
    """The record of an image and the command that repeats it, without secrets; None where there is none."""
    import json

    from linfusion_cli.output.metadata import command_of, read_record

    try:
        record = read_record(image)
        command = command_of(record, words_of_pixels())
    except LinfusionError:  # another program's image is shown all the same
        return None
    clean = json.loads(redacted(json.dumps(record)))
    return {"record": clean, "command": redacted(command)}


def _serve(content: Content, port: int, *, browser: bool, as_json: bool) -> int:
    """Serves the page until Ctrl-C."""
    from linfusion_cli.viewer.server import ViewServer

    with ViewServer(content, port) as server:
        if content.shown.image.exists():
            content.open()
        if as_json:
            emit(sys.stdout, "view", {"url": server.url})
        else:
            typer.echo(server.url)
        sys.stdout.flush()
        if browser:
            _open_browser(server.url)
        try:
            server.serve_forever(poll_interval=0.2)
        except KeyboardInterrupt:
            typer.echo("stopped", err=True)
    return 0


def _open_browser(url: str) -> None:
    import webbrowser

    if not webbrowser.open(url):
        typer.echo("note: no browser could be opened here; open the address yourself", err=True)
