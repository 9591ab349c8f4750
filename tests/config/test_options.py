from __future__ import annotations

import dataclasses
from typing import Literal, get_args, get_origin, get_type_hints

import pytest

from linfusion_cli.config import options
from linfusion_cli.config.option_row import COMMANDS
from linfusion_cli.config.options import OPTIONS, by_key, by_preset_key, options_of
from linfusion_cli.config.preset_schema import schema
from linfusion_cli.config.request import Request

NOT_OPTIONS = {"index"}  # the batch counts it


def test_every_field_of_a_request_is_a_row_of_the_same_type_and_default() -> None:
    hints = get_type_hints(Request)
    assert {row.key: row.request_type for row in OPTIONS} == {
        name: hint for name, hint in hints.items() if name not in NOT_OPTIONS
    }
    for field in dataclasses.fields(Request):
        if field.name not in NOT_OPTIONS | {"prompt"}:
            row = by_key()[field.name]
            assert field.default == (() if row.repeatable else row.default), field.name


def test_every_key_and_every_name_in_a_batch_is_there_once() -> None:
    names = [name for row in OPTIONS for name in row.batch_names]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_has_every_flag_once(command: str) -> None:
    flags = [flag for row in options_of(command) for flag in (*row.words_of(command), *row.other_names)]
    assert len(flags) == len(set(flags))
    assert all(row.help and row.help.endswith((".", "...")) for row in options_of(command))


def test_preset_keys_are_those_of_the_schema() -> None:
    assert set(by_preset_key()) <= set(schema())
    assert len(by_preset_key()) == sum(bool(row.preset_key) for row in OPTIONS)
    of_files = {key for key, row in by_preset_key().items() if not row.decides_pixels}
    assert of_files == {"output.store_prompt"}  # the section that is no part of a job's hash
    for key, row in by_preset_key().items():
        annotation = schema()[key].annotation
        if get_origin(annotation) is Literal:
            assert {type(word) for word in get_args(annotation)} == {row.kind}, key
        else:
            assert annotation == (tuple[row.kind, ...] if row.repeatable or row.preset_takes_list else row.kind), key


def test_the_table_is_in_the_order_of_the_help() -> None:
    assert options.OPTIONS[0].key == "prompt"
    keys = [row.key for row in options_of("plan") if not row.is_input]
    assert keys[:4] == ["preset", "size", "width", "height"]
