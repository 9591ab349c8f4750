"""Where training data are. Imports no torch, so that a wrong path is refused at once."""

from __future__ import annotations

from pathlib import Path

from linfusion_cli.errors import UsageError
from linfusion_cli.files import leads_somewhere, user_path

SCENES = "scenes"
ALLOWED = 'a folder of images with .txt captions, .tar or .parquet files (or a folder of them), or "scenes"'


def existing_path(location: str) -> Path | None:
    """The file or folder of the data; None for the procedural scenes. Raises UsageError if it does not exist."""
    if location == SCENES:
        return None
    path = user_path(location)
    if not leads_somewhere(path):
        raise UsageError(f'"{location}": there is no such file or folder. Allowed: {ALLOWED}', parameter="data")
    return path
