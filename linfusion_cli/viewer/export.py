"""Writes the page of a finished image as a folder of files, which a browser opens without a server."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import OutputError, UsageError
from linfusion_cli.files import replacing
from linfusion_cli.viewer.content import Content


def export(content: Content, folder: Path) -> int:
    """Makes `folder`, whole or not at all; returns how many files it has.

    Raises OutputError where it exists or can't be written, UsageError for an image that is damaged.
    """
    if folder.exists() or folder.is_symlink():
        raise OutputError(f'"{folder}": already exists. Give another name', parameter="export")
    content.live = False
    if (thread := content.open()) is not None:
        thread.join()
    if content.pyramid is None or not content.pyramid.ready:
        raise UsageError(content.state()["error"] or f"{content.shown.image}: no tiles could be made")
    count = 0
    try:
        with replacing(folder) as part:
            part.mkdir(parents=True)
            for name in content.names():
                found = content.find(name)
                if found is not None:
                    (part / name).parent.mkdir(parents=True, exist_ok=True)
                    (part / name).write_bytes(found[0])
                    count += 1
    except OSError as error:
        raise OutputError(f'"{folder}": can\'t be written ({error.strerror})', parameter="export") from error
    return count
