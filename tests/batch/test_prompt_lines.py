"""Lines of a .txt list: flags as a shell, A1111's script and the first scripts of Stable Diffusion read them."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.batch.prompt_lines import _words, line_values, read_txt
from linfusion_cli.errors import UsageError


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("a lake -n people -p landscape", {"prompt": "a lake", "count": "people", "preset": "landscape"}),
        ("a lake --prompt-weights --seed 7", {"prompt": "a lake", "prompt-weights": "true", "seed": "7"}),
        ("a lake --seed 7 --no-keep-projections", {"prompt": "a lake", "seed": "7", "keep-projections": "false"}),
        ("a lake --prompt-weights false", {"prompt": "a lake", "prompt-weights": "false"}),
        (
            "--prompt a castle, at night --negative_prompt trees, shrubs --steps 20",
            {"prompt": "a castle, at night", "negative_prompt": "trees, shrubs", "steps": "20"},
        ),
        (
            "--prompt a dog's day and a cat's life --negative \"it's --wet\"",
            {"prompt": "a dog's day and a cat's life", "negative": "it's --wet"},
        ),
        ("a lake --negative_prompt no cars -S7", {"prompt": "a lake", "negative_prompt": "no cars", "seed": "7"}),
        (
            "a lake -n4 -H512 -W 640 -S1234 -s50 -C7.5 -A k_euler_a",
            {
                "prompt": "a lake",
                "count": "4",
                "height": "512",
                "width": "640",
                "seed": "1234",
                "steps": "50",
                "guidance": "7.5",
                "scheduler": "k_euler_a",
            },
        ),
        ("a lake -n 3", {"prompt": "a lake", "count": "3"}),
        ('"a --b lake" --seed -1', {"prompt": '"a --b lake"', "seed": "-1"}),
        ("an F-16 over -20 degrees, size -XL -S", {"prompt": "an F-16 over -20 degrees, size -XL -S"}),
        ("the well-known, -n- and - a - lake", {"prompt": "the well-known, -n- and - a - lake"}),
    ],
)
def test_flags_are_written_as_on_the_command_line(line: str, values: dict[str, str]) -> None:
    assert line_values(line) == values
    assert list(read_txt(f"# a comment\n{line}\n")) == [(2, values)]


INFOTEXT = """one
two

a castle,
at night
Negative prompt: trees
Steps: 20, Sampler: Euler a, Size: 512x640
Steps: 4, Seed: 3
# comment
three
Negative prompt: cars
four Negative prompt: x Steps: 20, Seed: 1
"""


def test_lines_of_infotext_are_one_entry() -> None:
    assert list(read_txt(INFOTEXT)) == [
        (1, {"prompt": "one"}),
        (2, {"prompt": "two"}),
        (4, {"prompt": "a castle,\nat night\nNegative prompt: trees\nSteps: 20, Sampler: Euler a, Size: 512x640"}),
        (8, {"prompt": "Steps: 4, Seed: 3"}),
        (10, {"prompt": "three\nNegative prompt: cars"}),
        (12, {"prompt": "four Negative prompt: x Steps: 20, Seed: 1"}),
    ]


@given(
    st.lists(st.sampled_from(["a castle", "Negative prompt: trees", "Steps: 20, Seed: 1", "", "# note"]), max_size=9)
)
def test_no_line_is_lost(lines: list[str]) -> None:
    """Every line that is neither blank nor a comment is in one entry, in the order of the list."""
    found = [line for _, values in read_txt("\n".join(lines)) for line in str(values["prompt"]).split("\n") if line]
    assert found == [line for line in lines if line and not line.startswith("#")]


@given(st.text(st.sampled_from(list("a=-é\"' \t\r\n\x0b\xa0\\#")), max_size=16))
def test_words_are_those_of_a_shell(text: str) -> None:
    try:
        asked: list[str] | str = shlex.split(text)
    except ValueError:
        asked = "refused"
    try:
        found: list[str] | str = _words(text)
    except UsageError:
        found = "refused"
    assert found == asked


def test_kohyas_sample_prompts_are_read() -> None:
    assert line_values("a lake --n low quality, bad --w 640 --h 512 --d 7 --l 7.5 --s 28") == {
        "prompt": "a lake",
        "negative": "low quality, bad",
        "width": "640",
        "height": "512",
        "seed": "7",
        "guidance": "7.5",
        "steps": "28",
    }
    assert line_values("a lake --w 640 --h 512") == {"prompt": "a lake", "width": "640", "height": "512"}
