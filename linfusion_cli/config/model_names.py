"""Names instead of paths: what an option of weights calls by name is looked up in the configured folders of models."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from linfusion_cli.config.request import Request
from linfusion_cli.files import user_path
from linfusion_cli.weights.model_folders import FOLDERS, model_roots, path_inside, path_of

WORDS = {"none", ""}  # values that are no names


def with_paths(request: Request) -> Request:
    """The request with paths for names. Raises WeightsError for a name of no file, or of two.

    A value that is a path, a link, a name on the hub or a built-in model stays as it is; without a configured folder,
    every value does.
    """
    roots = model_roots()
    if not roots:
        return request
    changes: dict[str, Any] = {}
    for key in FOLDERS:
        value = getattr(request, key)
        if isinstance(value, tuple):
            changes[key] = tuple(_path(one, key, roots) for one in value)
        elif value is not None:
            changes[key] = _path(value, key, roots)
    return replace(request, **changes)


def _path(value: str, key: str, roots: tuple[Path, ...]) -> str:
    """A value with its name replaced; numbers and tokens behind a colon stay."""
    name, rest = value, ""
    if key in ("loras", "textual_inversions") and not user_path(value).exists():
        ending = r":.*" if key == "textual_inversions" else r"(:-?[\d.]+){1,2}"
        if found := re.fullmatch(rf"(.+?)({ending})", value):
            name, rest = found[1], found[2]
    if name in WORDS or ":" in name or user_path(name).exists():
        return value
    if "/" in name:  # of a file in a subfolder, or of a repository on the hub
        inside = path_inside(name, key, roots)
        return value if inside is None else f"{inside}{rest}"
    path = path_of(name, key, roots)
    return value if path is None else f"{path}{rest}"
