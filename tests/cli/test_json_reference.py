"""docs/json.md is what the schema makes, and every command is in it."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, ValidationError
from typer.main import get_command

from linfusion_cli.batch.dry_run import PlannedKind
from linfusion_cli.cli.app import app
from linfusion_cli.cli.json_reference import json_reference, outputs, schema
from linfusion_cli.cli.presets import ListedPreset
from linfusion_cli.events import MemorySampled, PhaseFinished, PhaseStarted
from linfusion_cli.planning.render_plan import Phase
from linfusion_cli.planning.upscale_schedule import Bands, Stage
from linfusion_cli.system_check import Finding

PAGE = Path(__file__).parents[2] / "docs" / "json.md"


def commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """Each command, as "presets-list"."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*words, name))
        else:
            yield "-".join((*words, name)), command


def test_the_schema_is_one() -> None:
    Draft202012Validator.check_schema(schema())


def test_the_page_is_what_the_schema_makes() -> None:
    assert PAGE.read_text(encoding="utf-8") == json_reference(), "make reference"


def test_every_command_takes_json_and_has_its_lines() -> None:
    found = dict(commands(get_command(app)))
    assert all(any("--json" in one.opts for one in command.params) for command in found.values())
    assert found.keys() == outputs().keys()


def test_every_line_is_of_a_command_and_is_told_from_others() -> None:
    lines = {one["$ref"].rsplit("/", 1)[-1] for one in schema()["anyOf"]}
    assert lines == {name for names in outputs().values() for name in names}
    assert all(schema()["$defs"][name]["properties"]["type"] for name in lines)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("stage", Stage),
        ("bands", Bands),
        ("phase_plan", Phase),
        ("phase", PhaseStarted),
        ("phase_done", PhaseFinished),
        ("memory", MemorySampled),
        ("finding", Finding),
        ("configuration", PlannedKind),
        ("preset", ListedPreset),
    ],
)
def test_a_new_field_is_a_new_key(name: str, kind: Any) -> None:
    """These are printed as they are: each of their fields is a key of json_schema.json, in $defs.

    The work of a phase is not printed: by it the machine's own speed is corrected.
    """
    printed = {field.name for field in fields(kind)} - {"work"}
    assert schema()["$defs"][name]["properties"].keys() - {"type"} == printed


def test_every_key_is_described() -> None:
    def undescribed(where: str, value: dict[str, Any]) -> Iterator[str]:
        for key, inner in value.get("properties", {}).items():
            if key != "type" and not inner.get("description"):
                yield f"{where}.{key}"
        for inner in (*value.get("properties", {}).values(), value.get("items"), value.get("additionalProperties")):
            if isinstance(inner, dict):
                yield from undescribed(where, inner)

    assert [text for name, one in schema()["$defs"].items() for text in undescribed(name, one)] == []


@pytest.mark.parametrize(
    "line",
    [
        {"type": "weights"},
        {"type": "weights", "path": 3},
        {"type": "weights", "path": "x", "more": 1},
        {"type": "weight", "path": "x"},
        {"path": "x"},
    ],
)
def test_other_lines_are_refused(line: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Draft202012Validator(schema()).validate(line)
