from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.config.value_range import Range, number_text

RANGES = [Range(1, 500), Range(0, 1), Range(1.1, 4), Range(0, 128, multiple_of=8), Range(64, 4096, multiple_of=8)]


@pytest.mark.slow
@pytest.mark.parametrize("allowed", RANGES)
@given(value=st.integers(-(10**6), 10**6))
@settings(deadline=None)
def test_the_nearest_value_is_allowed_and_none_is_nearer(allowed: Range, value: int) -> None:
    nearest = float(allowed.nearest(value))
    assert nearest in allowed
    if value in allowed:
        assert nearest == value
    else:
        assert not any(step in allowed for step in range(value, value + round(nearest - value)))


def test_an_open_end_is_not_allowed_and_has_no_nearest() -> None:
    allowed = Range(0, 1, above=True)
    assert 0 not in allowed
    assert 1e-9 in allowed
    assert (allowed.nearest(0), allowed.nearest(-3), allowed.nearest(2)) == ("", "", "1")


def test_not_a_number_is_in_no_range() -> None:
    assert not any(float("nan") in allowed for allowed in RANGES)


def test_words_name_type_and_ends() -> None:
    assert Range(1, 500).words(int) == "a whole number from 1 to 500"
    assert Range(0, 1, above=True).words(float) == "a number above 0, up to 1"
    assert Range(64, 4096, multiple_of=8).words(int) == "a multiple of 8 from 64 to 4096"


def test_numbers_are_written_without_exponents() -> None:
    assert [number_text(value) for value in (1 << 30, 0.4, 4.0)] == ["1073741824", "0.4", "4"]
