"""The values of a row: seeds and counts. Every type of every option is tried in test_task_list.py."""

from __future__ import annotations

import pytest

from linfusion_cli.batch.row_values import MOST_COUNT, converted, counted_images, row_types, seeds_of, wants
from linfusion_cli.errors import UsageError


def test_seeds_are_ranges() -> None:
    assert list(seeds_of("7")) == [7]
    assert list(seeds_of("1..3, 9,20..20")) == [1, 2, 3, 9, 20]
    for text in ("", "1..", "a", "-1", "1,-1", "1...3", "5000000000", "0..9999999"):
        with pytest.raises(UsageError, match="seeds"):
            list(seeds_of(text))


def test_counts() -> None:
    assert [counted_images("count", value) for value in (1, "4", 2.0, MOST_COUNT)] == [1, 4, 2, MOST_COUNT]
    for value in (0, -1, "many", 1.5, True, MOST_COUNT + 1, [2]):
        with pytest.raises(UsageError, match="write a whole number"):
            counted_images("count", value)


def test_keys_of_rows_are_options() -> None:
    assert {"prompt", "seed", "size", "negative_prompt"} <= set(row_types())
    assert "output" not in row_types()


def test_what_yaml_takes_for_a_boolean_is_yes_or_no() -> None:
    assert [converted("store_prompt", value, wants(str)) for value in (True, False, "no")] == ["yes", "no", "no"]
    with pytest.raises(UsageError):
        converted("scheduler", True, wants(str))
