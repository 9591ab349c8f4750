"""The checks of a config's values: what they admit, and how they and odd values are shown."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.weights.config_values import FLAG, Listed, Real, Whole, only, optional, shown

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
CHECKS = [FLAG, Whole(1, 8), Real(0, 1), Listed(Whole(1, 8), nested=True), optional(only("a")), only(1, None)]


@pytest.mark.slow
@pytest.mark.parametrize("check", CHECKS)
@given(value=JSON)
def test_any_value_is_answered_and_shown_in_short(check: object, value: object) -> None:
    assert check.admits(value) in (True, False)  # type: ignore[attr-defined]
    assert len(shown(value)) <= 60
    assert check.text  # type: ignore[attr-defined]


def test_truth_is_no_number_and_a_number_no_truth() -> None:
    assert not Whole().admits(True)
    assert not FLAG.admits(1)
    assert not only(1).admits(True)
    assert only(1.0).admits(1)


def test_lists_may_be_nested_once_where_allowed() -> None:
    assert Listed(Whole(), nested=True).admits([1, [2, 3]])
    assert not Listed(Whole()).admits([1, [2, 3]])
    assert not Listed(Whole(), nested=True).admits([1, [[2], 3]])
    assert not Listed(Whole()).admits([])
    assert not Listed(Whole()).admits([1] * 9)


def test_numbers_have_bounds() -> None:
    assert Real(0, 1).admits(1)
    assert not any(Real(0, 1).admits(value) for value in (0, 2, float("nan"), float("inf"), "1", None))
