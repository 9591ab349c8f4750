"""Words become flags and flags words, and every value stays with its flag, whatever it looks like."""

import argparse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.flag_words import dashed, switched_off, typed, word_of

WORDS = st.from_regex(r"[a-z][a-z-]{1,10}[a-z]", fullmatch=True)


def test_letters_have_one_dash_and_words_two() -> None:
    assert (dashed("o"), dashed("steps"), switched_off("overwrite")) == ("-o", "--steps", "--no-overwrite")


@given(WORDS)
def test_a_flag_leads_back_to_its_word(word: str) -> None:
    assert word_of(dashed(word)) == word_of(word.replace("-", "_")) == word


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, []),
        (3, ["--x-y", "3"]),
        ("a b", ["--x-y", "a b"]),
        (-1.5, ["--x-y=-1.5"]),
        ("--steps", ["--x-y=--steps"]),
        (True, ["--x-y"]),
        (False, ["--no-x-y"]),
        (["a", "-b"], ["--x-y", "a", "--x-y=-b"]),
        ([], []),
    ],
)
def test_a_value_is_typed_with_its_flag(value: object, expected: list[str]) -> None:
    assert list(typed("x-y", value)) == expected


@given(st.text(min_size=1).filter(lambda text: "\0" not in text))
def test_any_text_is_read_back_as_the_value_of_its_flag(text: str) -> None:
    parser = argparse.ArgumentParser(exit_on_error=False, add_help=False)
    parser.add_argument("--word")
    assert parser.parse_args(list(typed("word", text))).word == text
