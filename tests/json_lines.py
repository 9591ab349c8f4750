"""Lines of --json, held against the schema."""

from __future__ import annotations

import json
from typing import Any

from jsonschema import Draft202012Validator

from linfusion_cli.cli.json_reference import OUTPUT, outputs, schema


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def checked_lines(command: str, text: str) -> list[dict[str, Any]]:
    """The lines of standard output of a command ("presets-list"). Fails for a line that its schema does not allow."""
    lines = [json.loads(line, parse_constant=_no_constant) for line in text.splitlines()]
    validator = Draft202012Validator({**schema(), "anyOf": [{"$ref": f"#/$defs/{OUTPUT}{command}"}]})
    for line in lines:
        assert next(iter(line)) == "type"
        validator.validate(line)
    return lines


def forms(command: str, lines: list[dict[str, Any]]) -> set[str]:
    """The names in the schema's $defs of the lines' forms."""
    found: set[str] = set()
    for line in lines:
        fitting = [
            name
            for name in outputs()[command]
            if Draft202012Validator({"$defs": schema()["$defs"], "$ref": f"#/$defs/{name}"}).is_valid(line)
        ]
        assert len(fitting) == 1, f"{line['type']} is {fitting}: its form can't be told"
        found.update(fitting)
    return found
