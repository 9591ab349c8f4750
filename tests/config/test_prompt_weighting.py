"""Weights in prompts: what brackets mean, what stays text, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.config.job import resolve
from linfusion_cli.config.prompt_weighting import looks_weighted, parse_weights, plain_text
from linfusion_cli.config.request import Request
from linfusion_cli.errors import UsageError


def read(prompt: str) -> list[tuple[str, float]]:
    return [(fragment.text, round(fragment.weight, 4)) for fragment in parse_weights(prompt)]


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("a lake", [("a lake", 1)]),
        ("a (red) house", [("a ", 1), ("red", 1.1), (" house", 1)]),
        ("((red))", [("red", 1.21)]),
        ("[red] [[red]]", [("red", 0.9091), (" ", 1), ("red", 0.8264)]),
        ("(red:1.3)", [("red", 1.3)]),
        ("(red : 1.3 )", [("red ", 1.3)]),
        ("(red:1)", [("red", 1)]),
        ("(red:-.5)(blue:+2.)", [("red", -0.5), ("blue", 2)]),
        ("(a [dark:ish (red:2)] house:1.5)", [("a ", 1.5), ("dark:ish ", 1.3636), ("red", 2.7273), (" house", 1.5)]),
        (r"a house \(old\) \[x\] \\ c:\temp", [("a house (old) [x] \\ c:\\temp", 1)]),
        (r"(\(red\):1.2)", [("(red)", 1.2)]),
        ("at 12:30, 16:9", [("at 12:30, 16:9", 1)]),
        ("() a", [(" a", 1)]),
        ("", []),
    ],
)
def test_what_brackets_mean(prompt: str, wanted: list[tuple[str, float]]) -> None:
    assert read(prompt) == wanted


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (
            "a (red house",
            r'character 3 of the prompt, near "a \(red house": "\(" is never closed\. '
            "For the character itself put a backslash",
        ),
        ("a red) house", r'character 6 .*"\)" closes nothing'),
        ("a (red] house", r'"\]" closes nothing'),
        ("a red:1.2) house", r'character 10 .*"\)" closes nothing'),
        ("(at 12:30)", r"the weight 30 is not from -10 to 10"),
        ("((red:5):5)", r'weighs "red" by 25: from -10 to 10 is allowed'),
        ("[red:blue:0.5]", r"square brackets take no number, and words that change between steps are not known"),
        ("[" * 33 + "a" + "]" * 33, r"nested more than 32 deep"),
    ],
)
def test_broken_weights_are_refused_with_the_place(prompt: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        parse_weights(prompt)


@given(st.text(alphabet="ab ,.:\\()[]1"))
def test_what_is_escaped_comes_back_as_it_was(text: str) -> None:
    escaped = "".join(f"\\{letter}" if letter in "\\()[]" else letter for letter in text)
    fragments = parse_weights(escaped)
    assert plain_text(fragments) == text
    assert all(fragment.weight == 1 for fragment in fragments)


@given(st.text(alphabet="a :\\()[]1.-"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        fragments = parse_weights(text)
    except UsageError:
        fragments = ()
        assert set(text) & set("()[]")
    assert all(fragment.text and abs(fragment.weight) <= 10 for fragment in fragments)


def test_brackets_are_text_unless_weights_are_asked_for() -> None:
    assert resolve(Request(prompt="a (red house :)", seed=1)).prompt == "a (red house :)"
    with pytest.raises(UsageError, match="of the negative prompt"):
        resolve(Request(prompt="a house", negative_prompt="(fog", prompt_weights=True))
    with pytest.raises(UsageError, match="never closed"):
        resolve(Request(prompt="a (house", prompt_weights=True))
    assert looks_weighted("a (red:1.3) house") == "(red:1.3)"
    assert looks_weighted("a (red) house :)") == ""
