"""{a|b} and the forms of Dynamic Prompts."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.prompt_choices import chosen, count_texts, has_weights, text_at
from linfusion_cli.errors import UsageError


@pytest.mark.parametrize(
    ("text", "texts"),
    [
        ("{2$$a|b|c} x", ["a, b x", "a, c x", "b, c x"]),
        ("{1-2$$a|b}", ["a", "b", "a, b"]),
        ("{2$$ and $$a|b}", ["a and b"]),
        ("{2$$a|{b|c}}", ["a, b", "a, c"]),
        ("{0-1$$a|b}", ["", "a", "b"]),
        ("{0.5::a|b|2::c}", ["a", "b", "c"]),
        ("{0::a|b}", ["b"]),
        (r"\{a|b\}", ["{a|b}"]),
        (r"{a\|b|c}", ["a|b", "c"]),
        (r"{\{x\}|y} \(z\)", [r"{x} \(z\)", r"y \(z\)"]),
        ("a $$ b :: c", ["a $$ b :: c"]),
        ("{2$$a}", ["{2$$a}"]),
    ],
)
def test_forms(text: str, texts: list[str]) -> None:
    assert list(chosen(text)) == texts
    assert count_texts(text) == len(texts)
    assert [text_at(text, number) for number in range(len(texts))] == texts


def test_more_texts_than_anybody_waits_for_are_counted() -> None:
    assert count_texts("{a|b}" * 400) == 2**400
    assert text_at("{a|b}" * 400, 2**400 - 2) == "b" * 399 + "a"
    assert count_texts("{3$$a|{b|c}|d|{2$$e|f|g}}") == len(list(chosen("{3$$a|{b|c}|d|{2$$e|f|g}}")))


@pytest.mark.parametrize("text", ["{3$$a|b}", "{2-1$$a|b}", "{0::a|0::b}", "{2$$0::a|b}"])
def test_counts_that_can_not_be_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"it has \d choices to take"):
        list(chosen(text))
    with pytest.raises(UsageError, match=r"it has \d choices to take"):
        count_texts(text)


@given(st.lists(st.text("abc ", max_size=3), min_size=2, max_size=5), st.integers(1, 5))
def test_counts_take_every_combination_once(parts: list[str], count: int) -> None:
    if count <= len(parts):
        asked = [", ".join(picked) for picked in itertools.combinations(parts, count)]
        assert list(chosen(f"{{{count}$${'|'.join(parts)}}}")) == asked


@given(st.text("ab{}|", max_size=12))
def test_escaped_text_stands_for_itself(text: str) -> None:
    escaped = "".join(f"\\{letter}" if letter in "{}|" else letter for letter in text)
    assert list(chosen(escaped)) == [text]


@given(st.text(list("a{}|$:.0123-\\"), max_size=14))
def test_any_text_stands_for_something_or_is_refused(text: str) -> None:
    try:
        count = count_texts(text)
    except UsageError:
        return
    made = list(itertools.islice(chosen(text), 100))
    assert len(made) == min(count, 100)
    assert [text_at(text, number) for number in range(len(made))] == made


def test_weights_are_seen() -> None:
    assert has_weights("{0.5::a|b}")
    assert has_weights("{a|3::b}")
    assert not has_weights("a::b, std::vector {a|b}")
