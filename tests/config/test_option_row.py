from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.value_range import Range


def row(**columns: Any) -> OptionRow:
    return OptionRow(**{"key": "width", "kind": int, "names": ("width", "w"), "help": "Pixels.", **columns})


def test_messages_and_records_use_one_spelling() -> None:
    assert row().name == "width"
    assert row(recorded_name="w").name == "w"
    assert row(argument="WIDTH").name == "WIDTH"


def test_a_key_is_the_name_where_no_other_is_given() -> None:
    assert row(key="train_width", names=()).words == ("train-width",)
    assert row().words == ("width", "w")


@pytest.mark.parametrize(
    ("columns", "limits"),
    [
        ({"range": Range(1, 500)}, "From 1 to 500."),
        ({"range": Range(0, 1, above=True)}, "Above 0, up to 1."),
        ({"range": Range(0, 128, multiple_of=8)}, "A multiple of 8 from 0 to 128."),
        ({"kind": str, "choices": ("a", "b")}, "One of a, b."),
        ({"kind": str, "choices": ("a", "b"), "metavar": "a|b"}, ""),
        ({}, ""),
    ],
)
def test_limits_are_a_sentence(columns: dict[str, object], limits: str) -> None:
    assert row(**columns).limits == limits


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


def test_an_argument_has_no_words() -> None:
    assert row(argument="IMAGE").words == ()


def test_completions_begin_as_typed() -> None:
    assert row(choices=("cpu", "cuda", "mps")).completions("c") == ["cpu", "cuda"]
    assert row(suggestions=lambda: iter(["a", "b"])).completions("b") == ["b"]
    assert row().completions("") == []
