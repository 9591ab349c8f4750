"""Midjourney's parameters are answered in prompts, lists and on command lines, and never with nonsense."""

from __future__ import annotations

import pytest

from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.prompt_lines import line_values
from linfusion_cli.batch.task_list import make_tasks
from linfusion_cli.cli.foreign_flags import ADVICE, advice
from linfusion_cli.cli.spelling import told
from linfusion_cli.config.midjourney import IN_PROMPT, PARAMETERS, UNKNOWN_IN_LISTS, midjourney_advice
from linfusion_cli.errors import UsageError


def problems_of(line: str) -> list[str]:
    problems: list[str] = []
    try:
        row = Row("list.txt:1", line_values(line))
    except UsageError as error:
        return [told(error)]
    make_tasks([row], {"size": "64x64"}, "{id}", lambda ids: {}, problems)
    return [told(problem) for problem in problems]


@pytest.mark.parametrize("value", [" 6", ""])
def test_a_list_names_what_to_use(value: str) -> None:
    for name in sorted(UNKNOWN_IN_LISTS):
        (problem,) = problems_of(f"a lake --{name}{value}")
        assert "looks like Midjourney:" in problem, name


def test_shape_and_negative_words_are_understood() -> None:
    assert line_values("a lake --ar 16:9 --no trees, red shrubs") == {
        "prompt": "a lake",
        "ar": "16:9",
        "negative": "trees, red shrubs",
    }
    assert problems_of("a lake --ar 16:9 --no trees, shrubs") == []


def test_a_command_line_names_what_to_use() -> None:
    assert "a version of its models" in advice("--v")
    assert "debug" in advice("-v")
    for name in PARAMETERS.keys() - ADVICE.keys():
        assert advice(f"--{name}") == told(midjourney_advice(name))


def test_other_words_are_none_of_it() -> None:
    assert midjourney_advice("steps") is None
    assert not IN_PROMPT.search("a lake --seeds 4 -- no --video-wall x--v")
