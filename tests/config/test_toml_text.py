from __future__ import annotations

import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.config.toml_text import shown

VALUES = st.one_of(
    st.booleans(), st.integers(-(2**63), 2**63 - 1), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
)


@given(st.one_of(VALUES, st.lists(VALUES, max_size=4)))
def test_a_shown_value_is_toml_and_safe_to_print(value: object) -> None:
    text = shown(value)
    assert text.isprintable()
    assert tomllib.loads(f"key = {text}")["key"] == value


@pytest.mark.parametrize("value", ['a"b\\c', "tab\tesc\x1b[0m", "\U0001f600 é", "\u202e\u2028\x7f\x9b"])
def test_shown_is_toml_and_safe_to_print(value: str) -> None:
    text = shown(value)
    assert text.isprintable()
    assert tomllib.loads(f"key = {text}")["key"] == value
