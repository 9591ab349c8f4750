"""docs/json.md from json_schema.json: the lines of --json by command, and every key of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

SCHEMA = Path(__file__).with_name("json_schema.json")
PAGE = Path("docs/json.md")  # from the folder of a checkout
OUTPUT = "output-of-"  # a command's lines in $defs
HEAD = """# JSON lines

Every command takes `--json`. Each line of its standard output is then one JSON object: strict (no NaN), in ASCII,
without tokens and passwords, and with its `type` first. People's text goes to standard error; `--quiet` leaves it out.
A command that fails prints an `error` line last. Keys and types may be added; what is there stays.

This page is made from a [JSON Schema](https://json-schema.org) (draft 2020-12) by `make reference`. The schema is in
the package:

```sh
python -c "from importlib.resources import files; print(files('linfusion_cli') / 'cli' / 'json_schema.json')"
linfusion generate "a lake" --size 1024x512 --json --quiet | jq -r 'select(.type == "summary").path'
```

## Commands

| command | lines |
|---|---|"""


@cache
def schema() -> dict[str, Any]:
    """The JSON Schema of every line."""
    found: dict[str, Any] = json.loads(SCHEMA.read_text(encoding="utf-8"))
    return found


def outputs() -> dict[str, tuple[str, ...]]:
    """The lines of each command, as names in the schema's $defs: {"presets-list": ("preset", "error")}."""
    return {
        name.removeprefix(OUTPUT): tuple(_name_of(one) for one in definition["anyOf"])
        for name, definition in schema()["$defs"].items()
        if name.startswith(OUTPUT)
    }


def json_reference() -> str:
    """docs/json.md, in Markdown."""
    return "\n".join([HEAD, *_commands(), "", "## Lines", *_lines(), "## Parts of lines", *_parts()])


def _commands() -> Iterator[str]:
    for command, names in outputs().items():
        links = ", ".join(f"[{_title(name)}](#{name})" for name in names)
        yield f"| `{command.replace('-', ' ', 1) if command.count('-') else command}` | {links} |"


def _lines() -> Iterator[str]:
    for one in schema()["anyOf"]:
        yield from _section(_name_of(one))


def _parts() -> Iterator[str]:
    lines = {_name_of(one) for one in schema()["anyOf"]}
    for name in schema()["$defs"]:
        if name not in lines and not name.startswith(OUTPUT):
            yield from _section(name)


def _section(name: str) -> Iterator[str]:
    definition = schema()["$defs"][name]
    yield from ("", f"### {_title(name)} {{#{name}}}", "", definition["description"], "", "| key | value | |")
    yield "|---|---|---|"
    for key, value, what in _rows(definition, ""):
        yield f"| `{key}` | {value} | {what} |"
    yield ""


def _rows(definition: dict[str, Any], prefix: str) -> Iterator[tuple[str, str, str]]:
    for key, value in definition["properties"].items():
        absent = "" if key in definition["required"] else "May be absent. "
        yield f"{prefix}{key}", _words(value), f"{absent}{value.get('description', '')}"
        inner, path = value, f"{prefix}{key}"
        while "items" in inner or isinstance(inner.get("additionalProperties"), dict):
            path, inner = (
                (f"{path}[]", inner["items"]) if "items" in inner else (f"{path}.*", inner["additionalProperties"])
            )
        if "properties" in inner:
            yield from _rows(inner, f"{path}.")


def _words(value: dict[str, Any]) -> str:
    """The type of a value in words."""
    if "const" in value:
        return f'`"{value["const"]}"`'
    if "enum" in value:
        return " or ".join(f'`"{one}"`' for one in value["enum"])
    if "$ref" in value:
        return f"[{_name_of(value)}](#{_name_of(value)})"
    if "items" in value:
        return f"list of {_words(value['items'])}"
    if isinstance(value.get("additionalProperties"), dict):
        return f"object of {_words(value['additionalProperties'])}"
    kind = value.get("type", "any value")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _title(name: str) -> str:
    """A line's type and, where several lines have it, which one: "plan (configuration)"."""
    kind = schema()["$defs"][name].get("properties", {}).get("type", {})
    types = [kind["const"]] if "const" in kind else kind.get("enum", [])
    return name if types in ([], [name]) else f"{', '.join(types)} ({name.replace('_', ' ')})"


def _name_of(reference: dict[str, Any]) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]
