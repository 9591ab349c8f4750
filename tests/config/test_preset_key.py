from __future__ import annotations

from typing import Any

import pytest

from linfusion_cli.config.option_row import OptionRow
from linfusion_cli.config.preset_key import PresetKey
from linfusion_cli.config.value_range import Range


def key(**columns: Any) -> PresetKey:
    return PresetKey(**{"key": "a.b", "kind": int, "help": "Is b.", **columns})


@pytest.mark.parametrize(
    ("columns", "description"),
    [
        ({"range": Range(1, 9)}, "a whole number from 1 to 9"),
        ({"range": Range(0, 2), "is_list": True, "kind": float}, "a list of numbers from 0 to 2, like [2]"),
        (
            {"is_list": True, "least_items": 1, "kind": str},
            'a list of 1 or more names, like ["owner/name", "a/folder"]',
        ),
        ({"kind": bool}, "true or false"),
        ({"kind": str}, 'a text in quotes, "" for none'),
        ({"kind": str, "allowed": "a size"}, "a size"),
    ],
)
def test_the_description_says_what_to_write(columns: dict[str, Any], description: str) -> None:
    assert key(**columns).description == description


def test_the_comment_is_help_details_and_limits() -> None:
    assert key(details="More.", range=Range(1, 9)).comment == "Is b. More. From 1 to 9."
    assert key(kind=str, choices=("x", "")).comment == 'Is b. One of x, "".'


def test_the_key_of_an_option_says_what_the_option_says() -> None:
    row = OptionRow(key="bs", kind=int, help="Is b.", preset_key="a.b", repeatable=True, range=Range(1, 9))
    assert PresetKey.of(row) == key(range=Range(1, 9), is_list=True)
