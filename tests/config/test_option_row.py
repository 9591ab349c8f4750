from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.config.option_row import OptionRow


def row(**columns: Any) -> OptionRow:
    return OptionRow(**{"key": "width", "kind": int, "flags": ("--width", "-w"), "help": "Pixels.", **columns})


def test_messages_and_records_use_one_spelling() -> None:
    assert row().flag == "--width"
    assert row(recorded_flag="-w").flag == "-w"


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({}, int | None),
        ({"kind": Path, "repeatable": True}, tuple[Path, ...]),
        ({"kind": str, "default": "auto"}, str),
        ({"key": "prompt", "kind": str}, str),
    ],
)
def test_the_request_holds_the_type_of_the_row(columns: dict[str, object], expected: object) -> None:
    assert row(**columns).request_type == expected


def test_a_switch_is_a_boolean_that_a_preset_may_have_switched_on() -> None:
    assert row(kind=bool).is_switch
    assert not row(kind=bool, default=False).is_switch
    assert not row().is_switch


def test_a_word_without_dashes_is_positional() -> None:
    assert row(flags=("IMAGE",)).is_positional
    assert not row().is_positional


def test_completions_begin_as_typed() -> None:
    assert row(choices=("cpu", "cuda", "mps")).completions("c") == ["cpu", "cuda"]
    assert row(choices=lambda: iter(["a", "b"])).completions("b") == ["b"]
    assert row().completions("") == []
