"""Folders that users name, made where they are not there yet."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import OutputError


def make_folder(path: Path, flag: str = "") -> Path:
    """Makes a folder and those above it, unless it is there; gives it back. `flag` is what the user named it with.

    Raises OutputError if it can't be made, or if something else has the name.
    """
    place = f"{flag} {str(path)!r}".lstrip()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise OutputError(f"{place} is not a folder") from error
    except OSError as error:
        raise OutputError(f"{place}: can't make the folder ({error.strerror})") from error
    return path
