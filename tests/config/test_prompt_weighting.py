"""Weights in prompts: what brackets mean, what stays text, and what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.config.prompt_weighting import WeightedPrompt, parse_weights, plain_text
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError


def read(prompt: str) -> list[tuple[str, float]]:
    return [(fragment.text, round(fragment.weight, 4)) for fragment in parse_weights(prompt).fragments]


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
    fragments = parse_weights(escaped).fragments
    assert plain_text(fragments) == text.strip()
    assert parse_weights(escaped).notes == ()
    assert all(fragment.weight == 1 for fragment in fragments)


# What AUTOMATIC1111 makes of brackets that do not pair, of smileys and of BREAK, worked out by hand from the rules that
# it documents. "|" stands for the start of a chunk.
AS_A1111 = [
    ("a (red house", [("a ", 1), ("red house", 1.1)]),
    ("a ((red house", [("a ", 1), ("red house", 1.21)]),
    ("a [red house", [("a ", 1), ("red house", 0.9091)]),
    ("a red) house", [("a red) house", 1)]),
    ("a red] house", [("a red] house", 1)]),
    ("a red:1.2) house", [("a red:1.2) house", 1)]),
    ("a (red] house", [("a ", 1), ("red] house", 1.1)]),
    ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 0.9091)]),
    ("a cat :)", [("a cat :)", 1)]),
    ("a cat :( sad", [("a cat :", 1), (" sad", 1.1)]),
    ("a (happy :) cat) lake", [("a ", 1), ("happy :", 1.1), (" cat) lake", 1)]),
    ("(red:1.2 house)", [("red:1.2 house", 1.1)]),
    ("a BREAK b", [("a", 1), ("|b", 1)]),
    ("a,\n BREAK\n(b:1.2)", [("a,", 1), ("|", 1), ("b", 1.2)]),
    ("a BREAK", [("a", 1), ("|", 1)]),
    ("a break b, BREAKS, xBREAK", [("a break b, BREAKS, xBREAK", 1)]),
]


@pytest.mark.parametrize(("prompt", "wanted"), AS_A1111)
def test_brackets_without_a_pair_smileys_and_breaks_are_read_as_a1111_reads_them(
    prompt: str, wanted: list[tuple[str, float]]
) -> None:
    found = parse_weights(prompt).fragments
    assert [("|" * one.starts_chunk + one.text, round(one.weight, 4)) for one in found] == wanted


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("(a BREAK b)", [("a", 1.1), (" BREAK ", -1.1), ("b", 1.1)]),
        ("(a BREAK b:1.2)", [("a", 1.2), (" BREAK ", -1.2), ("b", 1.2)]),
        ("[a BREAK b]", [("a", 1 / 1.1), (" BREAK ", -1 / 1.1), ("b", 1 / 1.1)]),
        ("a ((b BREAK", [("a ", 1), ("b", 1.21), (" BREAK ", -1.21)]),
        ("(a BREAK b:1.0)", [("a", 1), ("|b", 1)]),
    ],
)
def test_a_break_inside_brackets_is_a_word_as_a1111_draws_it(prompt: str, wanted: list[tuple[str, float]]) -> None:
    """A1111's parser stores BREAK with the weight -1, its brackets multiply that, and its encoder looks for -1."""
    found = parse_weights(prompt)
    assert [(f"{'|' * one.starts_chunk}{one.text}", pytest.approx(one.weight)) for one in found.fragments] == wanted
    said = [note for note in found.notes if "BREAK inside brackets" in note]
    assert len(said) == any(text == " BREAK " for text, _ in wanted)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (
            "a (red house",
            '"(" at character 3 of the prompt, near "a (red house", is never closed: the rest weighs 1.1. ',
        ),
        ("a ((red house", "is never closed (and 1 more): the rest weighs 1.21"),
        ("[x", "the rest weighs 0.909"),
        ("a cat :)", '")" at character 8 of the prompt, near "a cat :)", closes nothing and is read as text'),
        ("red:1.2) x) y)", '")" at character 8 of the prompt'),
    ],
)
def test_a_bracket_without_a_pair_is_noted_once_with_its_place(prompt: str, says: str) -> None:
    (note,) = parse_weights(prompt).notes
    assert says in note


def test_both_kinds_of_bracket_without_a_pair_are_noted() -> None:
    assert len(parse_weights(") ( [").notes) == 3
    assert parse_weights("(a) [b] (c:1.2) \\( d").notes == ()


@given(st.text(alphabet="a :\\()[]1.- BREAK"))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_weights(text)
    except UsageError:
        found = WeightedPrompt((), ())
        assert set(text) & set("()[]")
    assert all((one.text or one.starts_chunk) and abs(one.weight) <= 10 for one in found.fragments)
    kept = plain_text(found.fragments).replace(" ", "")
    assert all(letter in text for letter in kept)


@given(st.text(alphabet="ab ,.:)]"))
def test_a_text_of_closing_brackets_alone_is_drawn_as_it_is(text: str) -> None:
    assert plain_text(parse_weights(text).fragments) == text.strip()


def test_brackets_are_text_unless_weights_are_asked_for() -> None:
    assert resolve(Request(prompt="a (red house :)", seed=1)).prompt == "a (red house :)"
    with pytest.raises(UsageError, match="of the negative prompt"):
        resolve(Request(prompt="a house", negative_prompt="[fog:0.5]", prompt_weights=True))
    with pytest.raises(UsageError, match="the prompt is empty"):
        resolve(Request(prompt="((( )))BREAK", prompt_weights=True))
