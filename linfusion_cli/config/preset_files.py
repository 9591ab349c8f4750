"""Preset files: where they are, and each one read, with the lines of its keys."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from linfusion_cli.config.toml_text import shown
from linfusion_cli.errors import LinfusionError, UsageError, nearest
from linfusion_cli.files import config_folder, read_input
from linfusion_cli.toml_files import parse_toml

DEFAULTS = "defaults"
DEFAULT_PRESET = "landscape"  # where nobody names another, or a model of another family
LARGEST_PRESET_BYTES = 1 << 20
NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_SECTION = re.compile(r"\s*\[\s*([\w.-]+)\s*]")
_KEY = re.compile(r"\s*([\w.-]+)\s*=")


@dataclass(frozen=True, slots=True)
class Layer:
    """One preset file. `source`: its name for people, such as "preset sdxl-4k"."""

    source: str
    path: Path
    text: str
    data: Mapping[str, object] = field(hash=False)

    def where(self, key: str) -> str:
        """The file and, if it can be found, the line of a key."""
        number = lines_of_keys(self.text).get(key)
        return f"{self.path}, line {number}" if number else str(self.path)


@lru_cache(maxsize=16)  # of the layers of a few presets, which thousands of rows of a list may lie over
def lines_of_keys(text: str) -> Mapping[str, int]:
    """The number of the first line of each section and key of a preset, from 1."""
    found: dict[str, int] = {}
    inside = ""
    for number, line in enumerate(text.splitlines(), 1):
        if header := _SECTION.match(line):
            inside = header[1]
            found.setdefault(inside, number)
        if here := _KEY.match(line):
            found.setdefault(f"{inside}.{here[1]}".strip("."), number)
    return found


@lru_cache(maxsize=16)
def parsed(text: str) -> Mapping[str, object]:
    """The values of a preset, not to be changed. Raises ValueError as parse_toml() does."""
    return parse_toml(text)


def shipped_folder() -> Path:
    """Where the presets of this program are: inside the package when installed, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "presets", package.parent / "presets"):
        if (folder / f"{DEFAULTS}.toml").is_file():
            return folder
    raise LinfusionError(
        f"{package}: presets/{DEFAULTS}.toml is missing: this installation is damaged. Install linfusion again"
    )


def user_folder() -> Path:
    """Where a user keeps presets of their own; it may not exist."""
    return config_folder() / "presets"


def preset_files() -> dict[str, Path]:
    """Every preset by name. A file of the user beats a shipped one of the same name."""
    files: dict[str, Path] = {}
    for folder in (shipped_folder(), user_folder()):
        for path in sorted(folder.glob("*.toml")):
            if path.stem != DEFAULTS and NAME_PATTERN.fullmatch(path.stem):
                files[path.stem] = path
    return dict(sorted(files.items()))


def find_preset(name: str, *, asked_by: Path | None = None) -> Path:
    """The file of a preset: `name` is a preset's name, or a path that ends in .toml.

    A path in `extends` starts at the folder of `asked_by`, the file that has it; a file that extends its own name
    means the shipped one. Raises UsageError if there is no such preset, or if a name looks like a path.
    """
    if name.endswith(".toml"):
        return asked_by.parent / name if asked_by else Path(name)
    if not NAME_PATTERN.fullmatch(name):
        raise UsageError(
            f'preset "{name}": a name has letters, digits, "-", "_" and "." only; the path of a file ends in .toml'
        )
    files = preset_files()
    shipped = shipped_folder() / f"{name}.toml"
    if asked_by is not None and files.get(name) == asked_by and shipped.is_file():
        files[name] = shipped
    if name not in files:
        hint = nearest(name, files)
        raise UsageError(
            f'unknown preset "{name}". {hint if hint.endswith("?") else hint + "."} List them: linfusion presets list'
        )
    return files[name]


def preset_chain(name: str) -> list[Layer]:
    """A preset and what it extends, the one that extends nothing first. Raises UsageError for a circle."""
    layers: list[Layer] = []
    seen: list[Path] = []
    next_name: object = name
    while isinstance(next_name, str):
        path = find_preset(next_name, asked_by=layers[-1].path if layers else None)
        real = Path(os.path.realpath(path))  # Path.resolve() raises for links that lead in a circle
        if real in seen:
            raise UsageError(
                f'{layers[-1].where("extends")}: extends = "{next_name}" leads back to a preset that it is part of'
            )
        seen.append(real)
        layers.append(read_preset(path, f"preset {next_name}"))
        next_name = layers[-1].data.get("extends")
    if next_name is not None:
        raise UsageError(
            f"{layers[-1].where('extends')}: extends = {shown(next_name)}: write the name of one preset in quotes"
        )
    return layers[::-1]


def read_preset(path: Path, source: str) -> Layer:
    """One file, not checked yet. Raises UsageError if it can't be read or is no TOML in UTF-8."""
    try:
        text = read_input(path, LARGEST_PRESET_BYTES).decode("utf-8-sig")
        return Layer(source, path, text, parsed(text))
    except OSError as error:
        raise UsageError(f"{path}: the preset can't be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: a preset is a text in UTF-8, and byte {error.start} is not") from error
    except ValueError as error:
        line = re.search(r"line (\d+)", str(error))
        where = f"line {line[1]}" if line else "the last line"
        raise UsageError(f"{path}, {where}: broken TOML: {error}") from error
