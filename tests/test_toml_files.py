"""TOML of strangers: odd texts end in one kind of error, soon; plain ones are read as the library reads them."""

from __future__ import annotations

import time
import tomllib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.toml_files import MOST_KEY_PARTS, parse_toml

ODD = {
    "digits": "a = " + "9" * 5000,
    "nested": "a = " + "[" * 20_000 + "]" * 20_000,
    "parts": ".".join(["a"] * 20_000) + " = 1",
    "quoted parts": ".".join(["'a'"] * 20_000) + " = 1",
    "parts of a table": "[" + " . ".join(["a"] * 20_000) + "]",
    "parts inside": "a = {" + ".".join(["a"] * 20_000) + " = 1}",
    "no text": "\0",
    "cut": 'a = "b',
}


@pytest.mark.parametrize("name", ODD)
def test_odd_texts_end_soon_in_a_value_error(name: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=r"."):
        parse_toml(ODD[name])
    assert time.process_time() - started < 2


@pytest.mark.parametrize("text", ["a" * 900_000, "'" * 900_000, '"' * 900_001, "a." * 50 + "b = 1\n" * 9])
def test_a_text_without_long_keys_is_searched_soon(text: str) -> None:
    started = time.process_time()
    found = ""
    try:
        parse_toml(text)
    except ValueError as error:
        found = str(error)
    assert "parts" not in found
    assert time.process_time() - started < 5


@given(st.dictionaries(st.from_regex(r"[a-z]{1,8}", fullmatch=True), st.integers(-(10**9), 10**9), max_size=9))
def test_plain_tables_are_read_as_the_library_reads_them(table: dict[str, int]) -> None:
    text = "".join(f"{key} = {value}\n" for key, value in table.items())
    assert parse_toml(text) == table == tomllib.loads(text)


def test_a_key_of_the_most_parts_is_read() -> None:
    assert parse_toml(".".join(["a"] * MOST_KEY_PARTS) + " = 1")
