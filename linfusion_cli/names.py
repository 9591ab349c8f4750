"""Names of files: templates with fixed fields, texts made fit for a name, and what no name of one PNG file may be."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

from linfusion_cli.errors import UsageError, nearest
from linfusion_cli.preset import shown

LARGEST_NAME_BYTES = 240  # file systems end at 255, and the temporary name is longer
SLUG_BYTES = 80
TEMPLATE_FIELDS = ("preset", "seed", "width", "height", "size", "index", "slug", "id")
WINDOWS_DEVICES = re.compile(r"(?i)con|prn|aux|nul|com\d|lpt\d")


def slug(text: str) -> str:
    """A text as a part of a file name: NFC letters, digits, "-" and "_", at most 80 bytes, no leading "-"; never empty."""
    words = re.sub(r"[^\w]+", "-", unicodedata.normalize("NFC", text)).strip("-_")
    name = words.encode()[:SLUG_BYTES].decode(errors="ignore").strip("-_") or "picture"
    return f"{name}-" if WINDOWS_DEVICES.fullmatch(name) else name


def expand(template: str, values: Mapping[str, str | int], place: str) -> str:
    """Fills {field} and {field:04d}; {{ and }} are braces. Raises UsageError, which names `place`, for anything else."""

    def fill(match: re.Match[str]) -> str:
        if match[0] in ("{{", "}}"):
            return match[0][0]
        name, width = match["name"], match["width"]
        if name is None:
            raise UsageError(f'{place} {shown(template)}: "{match[0]}" is no field. Fields: {_field_list()}; for a brace write {{{{ or }}}}')
        if name not in values:
            raise UsageError(f'{place} {shown(template)}: unknown field "{{{name}}}". {nearest(name, values)} Fields: {_field_list()}')
        value = values[name]
        if width and isinstance(value, str):
            raise UsageError(f'{place} {shown(template)}: "{match[0]}": only numbers can be padded with zeros; write {{{name}}}')
        return f"{value:0{int(width)}d}" if width else str(value)

    return re.sub(r"\{\{|\}\}|\{(?P<name>\w+)(?::0(?P<width>[1-9])d)?\}|\{[^{}]*\}?|\}", fill, template)


def _field_list() -> str:
    return " ".join(f"{{{name}}}" for name in TEMPLATE_FIELDS)


def checked_name(name: str, template: str, place: str) -> str:
    """The name with its ending; refuses what is no name of one PNG file."""
    if not name.strip(". ") or "/" in name or "\\" in name or not name.isprintable():
        raise UsageError(f"{place} {shown(template)}: write the name of one file, without folders and control characters")
    ending = re.search(r"\.[A-Za-z][A-Za-z0-9]{0,4}$", name)
    if ending and ending[0].lower() != ".png":
        raise UsageError(f'{place} {shown(template)}: pictures are PNG files. Write "{name[: ending.start()]}.png"')
    name = name if ending else f"{name}.png"
    if len(name.encode(errors="replace")) > LARGEST_NAME_BYTES:
        raise UsageError(f"{place} {shown(template)}: the name has {len(name.encode(errors='replace'))} bytes: at most {LARGEST_NAME_BYTES}")
    return name
