"""Flags that people bring from other tools are answered with what there is."""

from __future__ import annotations

import re

import pytest

from linfusion_cli.cli.app import main
from linfusion_cli.cli.foreign_flags import ADVICE, advice
from linfusion_cli.cli.spelling import dashed, other_words
from linfusion_cli.config.options import options_of


def test_the_advice_names_flags_that_are_there() -> None:
    own = {dashed(word) for row in options_of("generate") for word in row.words}
    assert {flag for text in ADVICE.values() for flag in re.findall(r"--[a-z-]+", text)} <= own


def test_none_of_them_is_a_flag() -> None:
    own = {word for row in options_of("generate") for word in row.words} | other_words("generate").keys()
    assert not own & ADVICE.keys()
    assert advice("--steps") == ""


@pytest.mark.parametrize("typed", ["--hires-fix", "--hires_fix", "--enable_hr"])
def test_the_error_says_what_to_use(typed: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", "a lake", typed]) == 2
    assert "--upscale-strength" in capsys.readouterr().err
