"""Lists in any Unicode encoding, with any line ends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.list_text import decoded, filled_lines, lines_of
from linfusion_cli.errors import UsageError


@given(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff")),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]),
)
def test_any_text_is_decoded(text: str, encoding: str) -> None:
    if encoding != "utf-8" or "\0" not in text:  # with a mark there is nothing to guess
        assert decoded(text.encode(encoding), "x") == text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_found(encoding: str) -> None:
    assert decoded("a lake at café \N{EN DASH} Zürich\n".encode(encoding), "x").startswith("a lake at café")


def test_other_bytes_are_refused_with_their_line() -> None:
    with pytest.raises(UsageError, match=r"x:3: not a text in UTF-8 \(byte 10\)"):
        decoded(b"ok\rok\r\ncaf\xe9\n", "x")
    with pytest.raises(UsageError, match=r"x:2: not a text in UTF-16"):
        decoded("ok\n".encode("utf-16") + b"a", "x")


@given(st.lists(st.text(st.characters(exclude_characters="\r\n")), min_size=1), st.sampled_from(["\r", "\n", "\r\n"]))
def test_three_line_ends(lines: list[str], end: str) -> None:
    assert list(lines_of(end.join(lines))) == list(enumerate(lines, 1))
    assert [line for _, line in filled_lines(end.join(lines))] == [line for line in lines if line.strip()]
