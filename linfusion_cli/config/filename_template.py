"""Names of files: templates with fixed fields, texts made fit for a name, and what no name of one image file may be."""

from __future__ import annotations

import functools
import os
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from linfusion_cli.config.toml_text import shown
from linfusion_cli.errors import Option, UsageError, nearest_name, option
from linfusion_cli.file_formats import BY_NAME, ENDINGS, PNG, format_of_ending

Origin = str | Option  # where a template was given, for messages
ON_WINDOWS = os.name == "nt"
LARGEST_NAME_BYTES = 240  # file systems end at 255, and the temporary name is longer
SLUG_BYTES = 80
TEMPLATE_FIELDS = ("preset", "seed", "width", "height", "size", "index", "slug", "id")
WINDOWS_DEVICES = re.compile(r"(?i)con|prn|aux|nul|com[\d¹²³]|lpt[\d¹²³]")
_NOT_ON_WINDOWS = re.compile(r'[<>:"|?*]')
_PIECE = re.compile(r"\{\{|\}\}|\{(?P<name>\w+)(?::0(?P<width>[1-9])d)?\}|\{[^{}]*\}?|\}")
_NO_WORD = re.compile(r"\W+")
_ENDING = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,4}$")


@dataclass(frozen=True, slots=True)
class _Field:
    """A field of a template: as it is written, its name, and the digits that it is padded to (0: as it is)."""

    text: str
    name: str
    width: int


def slug(text: str) -> str:
    """A text as a part of a file name: NFC letters, digits, "-" and "_"; 1 to 80 bytes, no leading "-"."""
    words = _NO_WORD.sub("-", unicodedata.normalize("NFC", text)).strip("-_")
    name = words.encode()[:SLUG_BYTES].decode(errors="ignore").strip("-_") or "picture"
    return f"{name}-" if WINDOWS_DEVICES.fullmatch(name) else name


def expand(template: str, values: Mapping[str, str | int], origin: Origin) -> str:
    """Fills {field} and {field:04d}; {{ and }} are braces. Raises UsageError that names `origin` for anything else."""
    return "".join(
        [
            part if isinstance(part, str) else _filled(part, values, template, origin)
            for part in _parts(template, origin)
        ]
    )


@functools.lru_cache(maxsize=64)
def _parts(template: str, origin: Origin) -> tuple[str | _Field, ...]:
    """A template, read once for the many names of a batch: texts and fields."""
    parts: list[str | _Field] = []
    end = 0
    for match in _PIECE.finditer(template):
        parts.append(template[end : match.start()])
        end = match.end()
        if match[0] in ("{{", "}}"):
            parts.append(match[0][0])
        elif match["name"] is None:
            raise UsageError(
                origin,
                f' {shown(template)}: "{match[0]}" is not a field. '
                f"Fields: {_field_list()}; for a brace write {{{{ or }}}}",
            )
        else:
            parts.append(_Field(match[0], match["name"], int(match["width"] or 0)))
    return tuple(part for part in (*parts, template[end:]) if part)


def _filled(field: _Field, values: Mapping[str, str | int], template: str, origin: Origin) -> str:
    if field.name not in values:
        close = nearest_name(field.name, values)
        meant = f' Did you mean "{close}"?' if close else ""
        raise UsageError(
            origin, f' {shown(template)}: unknown field "{{{field.name}}}".{meant} Fields: {_field_list()}'
        )
    value = values[field.name]
    if field.width and isinstance(value, str):
        raise UsageError(
            origin, f' {shown(template)}: "{field.text}": only numbers can be padded with zeros; write {{{field.name}}}'
        )
    return f"{value:0{field.width}d}" if field.width else str(value)


def _field_list() -> str:
    return " ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)


def windows_reason(name: str) -> str:
    """Why a file can't have this name on Windows, "" where it can."""
    if WINDOWS_DEVICES.fullmatch(name.partition(".")[0].rstrip()):
        return "Windows keeps it for a device"
    if found := _NOT_ON_WINDOWS.search(name):
        return f"Windows has no {found[0]} in names"
    return "Windows has no dot or space at the end of a name" if name.endswith((".", " ")) else ""


def checked_name(name: str, template: str, origin: Origin, format_name: str = "") -> str:
    """The name with its ending; refuses what is no name of one image file.

    format_name: the format that was chosen, "" for that of the ending, or PNG. A chosen format beats the ending of a
    preset's template, and is refused beside another ending that was typed.
    """
    if not name.strip(". ") or "/" in name or "\\" in name or not name.isprintable():
        raise UsageError(
            origin, f" {shown(template)}: write the name of one file, without folders and control characters"
        )
    name = _with_ending(name, template, origin, format_name)
    if ON_WINDOWS and (reason := windows_reason(name)):
        nearest = f"{slug(name.rpartition('.')[0])}.{name.rpartition('.')[2]}"
        raise UsageError(origin, f' {shown(template)}: {reason}. Nearest: "{nearest}"')
    length = len(name.encode(errors="replace"))
    if length > LARGEST_NAME_BYTES:
        raise UsageError(origin, f" {shown(template)}: the name has {length} bytes: at most {LARGEST_NAME_BYTES}")
    return name


def _with_ending(name: str, template: str, origin: Origin, format_name: str) -> str:
    match = _ENDING.search(name)
    known = format_of_ending(match[0]) if match else None
    chosen = BY_NAME[format_name] if format_name else known or PNG
    stem = name[: match.start()] if match else name
    if match and known is None:
        names = ", ".join(ENDINGS)
        raise UsageError(origin, f' {shown(template)}: images end in {names}. Nearest: "{stem}{chosen.endings[0]}"')
    if known is chosen:
        return name
    if known is not None and isinstance(origin, Option):
        raise UsageError(
            origin,
            f" {shown(template)}: its ending is that of a {known.title}, and ",
            option("format", format_name),
            f' was given. Nearest: "{stem}{chosen.endings[0]}"',
        )
    return f"{stem}{chosen.endings[0]}"
