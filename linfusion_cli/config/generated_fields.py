"""Writes what follows from a row of the tables: fields of request.py and preset_schema.py, lines of defaults.toml."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import get_args

from linfusion_cli.config import choices
from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.preset_key import PresetKey
from linfusion_cli.config.preset_keys import preset_keys
from linfusion_cli.config.toml_text import shown

FIELD = re.compile(r"    (\w+): ")
LAST_FIELD = "    index: "  # of Request: the batch counts it, no option sets it


def with_request_fields(source: str) -> str:
    """The source of request.py with a field for each option that has none yet."""
    there = {found[1] for line in source.splitlines() if (found := FIELD.match(line))}
    missing = "".join(f"    {_request_field(row)}\n" for row in all_rows() if row.key not in there)
    return source.replace(LAST_FIELD, missing + LAST_FIELD)


def _request_field(row: OptionRow) -> str:
    """A line such as "steps: int | None = None"."""
    kind = row.kind.__name__
    if row.repeatable:
        return f"{row.key}: tuple[{kind}, ...] = ()"
    if row.default is not None:
        default = f'"{row.default}"' if isinstance(row.default, str) else repr(row.default)
        return f"{row.key}: {kind} = {default}"
    return f"{row.key}: {kind} | None = None"


def with_preset_fields(source: str) -> str:
    """The source of preset_schema.py with a field, in the class of its section, for each key that has none yet."""
    blocks = re.split(r"(?m)^(?=class )", source)
    return "".join(_with_section_fields(block) for block in blocks)


def _with_section_fields(block: str) -> str:
    """The class of a section with a field for each of its keys, after those that it has."""
    found = re.match(r"class (\w+)Settings\(", block)
    if found is None:
        return block
    lines = block.splitlines(keepends=True)
    names = {match[1]: number for number, line in enumerate(lines) if (match := FIELD.match(line))}
    last = max(names.values())
    if lines[last].endswith("(\n"):  # a field of several lines
        last = next(number for number in range(last, len(lines)) if lines[number] == "    )\n")
    missing = [f"    {_preset_field(key)}\n" for key in _keys_of(found[1].lower()) if _name(key) not in names]
    return "".join([*lines[: last + 1], *missing, *lines[last + 1 :]])


def _preset_field(key: PresetKey) -> str:
    """A line such as 'steps: int = _key("sampling.steps")', or "resize: Resize" for words of choices.py."""
    alias = next((name for name, words in vars(choices).items() if key.choices and get_args(words) == key.choices), "")
    if key.choices and not key.is_list:
        words = ", ".join(f'"{word}"' for word in key.choices)
        return f"{_name(key)}: {alias or f'Literal[{words}]'}"
    kind = f"tuple[{key.kind.__name__}, ...]" if key.is_list else key.kind.__name__
    return f'{_name(key)}: {kind} = _key("{key.key}")'


def with_defaults(text: str) -> str:
    """The text of presets/defaults.toml with a line for each key that has none, at the value that changes nothing."""
    sections = re.split(r"(?m)^(?=\[)", text)
    return "".join(_with_section_defaults(section) for section in sections)


def _with_section_defaults(section: str) -> str:
    found = re.match(r"\[(\w+)\]", section)
    there = set(re.findall(r"(?m)^(\w+) = ", section))
    missing = [key for key in _keys_of(found[1]) if _name(key) not in there] if found else []
    lines = "".join(f"{_name(key)} = {shown(key.neutral)}\n" for key in missing)
    return f"{section.rstrip()}\n{lines}\n" if lines else section


def _keys_of(section: str) -> Iterator[PresetKey]:
    return (key for key in preset_keys().values() if key.key.startswith(f"{section}."))


def _name(key: PresetKey) -> str:
    return key.key.partition(".")[2]
