"""A user's own defaults: the variables LINFUSION_STEPS and the like, and the file config.toml.

An option that is typed beats its variable, this beats the file, and all beat the preset.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import all_rows, by_key
from linfusion_cli.config.size_rows import SIZE_ROWS
from linfusion_cli.errors import UsageError, nearest, nearest_name
from linfusion_cli.files import config_folder, read_input
from linfusion_cli.toml_files import parse_toml

PREFIX = "LINFUSION_"
OTHER_VARIABLES = frozenset({"LINFUSION_DEBUG", "LINFUSION_PARENT", "LINFUSION_LAUNCHED", "LINFUSION_FUZZ"})
LARGEST_CONFIG_BYTES = 1 << 20
TRUE, FALSE = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
NOT_DEFAULTS = frozenset({"prompt", "upscale_image", "output"})  # each image has its own
# Of these, one that is typed puts aside what the user's defaults say of the others.
GROUPS = (
    frozenset(row.key for row in SIZE_ROWS),
    frozenset({"preset", "model", "unet", "linfusion"}),
    frozenset({"device", "devices"}),
    frozenset({"devices", "ranks"}),
)
Value = str | int | float | bool | Path | list[str] | list[int] | list[float] | list[Path]


@dataclass(frozen=True, slots=True)
class UserDefault:
    """A value with where it comes from: "LINFUSION_STEPS" or the path of the file."""

    value: Value
    source: str


def config_file() -> Path:
    """Where a user's defaults are: ~/.config/linfusion/config.toml on Linux (XDG), %APPDATA% on Windows."""
    return config_folder() / "config.toml"


def rows_with_defaults() -> tuple[OptionRow, ...]:
    """The options that a user can set a default for."""
    return tuple(row for row in all_rows() if row.key not in NOT_DEFAULTS)


def variable_of(row: OptionRow) -> str:
    """LINFUSION_STEPS."""
    return PREFIX + row.key.upper()


def user_defaults(environment: Mapping[str, str] = os.environ) -> dict[str, UserDefault]:
    """The defaults by key, variables before the file.

    Raises UsageError, naming the file or the variable, for unknown keys and values that can't be.
    """
    found = {key: UserDefault(value, str(config_file())) for key, value in _read_file(config_file()).items()}
    named = {variable_of(row): row for row in rows_with_defaults()}
    given = {name: environment[name] for name in named if environment.get(name, "")}
    for group in GROUPS:  # a variable puts aside what the file says of its group
        if any(named[name].key in group for name in given):
            found = {key: one for key, one in found.items() if key not in group}
    for name, text in given.items():
        found[named[name].key] = UserDefault(_of_text(named[name], text, name), name)
    return found


def unknown_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Variables that look like a default and are none, with the nearest name or ""."""
    known = {variable_of(row) for row in rows_with_defaults()}
    names = [name for name in environment if name.startswith(PREFIX) and name not in known | OTHER_VARIABLES]
    return {name: nearest_name(name, known) for name in sorted(names)}


def fitting(found: Mapping[str, UserDefault], typed: Iterable[str], keys: Iterable[str]) -> dict[str, UserDefault]:
    """The defaults of a command that has these keys, beside the options that were typed."""
    typed, keys = frozenset(typed), frozenset(keys)
    aside = frozenset[str]().union(*(group for group in GROUPS if group & typed))
    used = {key: one for key, one in found.items() if key in keys - typed - aside}
    there = typed | used.keys()
    rows = by_key()
    return {key: one for key, one in used.items() if (rows[key].belongs_to or key) in there}


def _read_file(path: Path) -> dict[str, Value]:
    try:
        data = parse_toml(read_input(path, LARGEST_CONFIG_BYTES).decode("utf-8-sig"))
    except (FileNotFoundError, NotADirectoryError):  # HOME may be a file, and XDG_CONFIG_HOME /dev/null
        return {}
    except OSError as error:
        advice = ". Set HOME to a folder of your own" if isinstance(error, PermissionError) else ""
        raise UsageError(f"{path}: it can't be read: {error.strerror}{advice}") from error
    except ValueError as error:
        raise UsageError(f"{path}: broken TOML: {error}") from error
    rows = {name: row for row in rows_with_defaults() for name in row.batch_names}
    found: dict[str, Value] = {}
    for name, value in data.items():
        row = rows.get(name.replace("-", "_"))
        if row is None:
            raise UsageError(f'{path}: unknown key "{name}". {nearest(name, rows)}')
        if row.key in found:
            raise UsageError(f'{path}: "{name}": {row.key} is given twice')
        found[row.key] = _of_toml(row, value, f"{path}: {name}")
    return found


def _of_toml(row: OptionRow, value: object, where: str) -> Value:
    """A value of the file as the command line has it."""
    if isinstance(value, list) and row.repeatable:
        return [_single(row, item, where) for item in value]  # type: ignore[return-value]
    single = _single(row, value, where)
    return [single] if row.repeatable else single  # type: ignore[return-value]


def _of_text(row: OptionRow, text: str, where: str) -> Value:
    """A value of a variable, whose repeated values are on lines or between commas, paths to search as in PATH."""
    if row.repeatable:
        parts = text.split(os.pathsep) if row.is_search_path else re.split(r"[\n,]", text)
        kept = [part.strip() for part in parts if part.strip() or not row.is_search_path]
        return [_single(row, part, where) for part in kept]  # type: ignore[return-value]
    return _single(row, text, where)


def _single(row: OptionRow, value: object, where: str) -> str | int | float | bool | Path:
    """One value of the row's type, in its range. Raises UsageError that names where it was given."""
    words = {bool: "true or false", int: "a whole number", float: "a number"}.get(row.kind, "a text")
    wrong = UsageError(f"{where} = {value!r:.80}: write {row.range.words(row.kind) if row.range else words}")
    if row.kind is bool:
        lower = str(value).lower()
        if lower not in TRUE + FALSE:
            raise wrong
        return lower in TRUE
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong
    if row.kind in (int, float):
        try:
            number = row.kind(value) if isinstance(value, str) or row.kind is float else value
        except ValueError as error:
            raise wrong from error
        if not isinstance(number, row.kind):
            raise wrong
        if row.range is not None and number not in row.range:
            close = row.range.nearest(number)
            raise UsageError(f"{wrong.message}. Nearest: {close}" if close else wrong.message)
        return number
    text = str(value)
    return Path(text).expanduser() if row.kind is Path else text
