"""Flags as they are typed, made from the words of the table."""

from __future__ import annotations

import pytest

from linfusion_cli.cli.spelling import (
    dashed,
    declarations,
    flag,
    flags_of,
    other_words,
    speller,
    told,
    words_of_pixels,
)
from linfusion_cli.config.option_row import COMMANDS, GENERATE, UPSCALE
from linfusion_cli.config.options import by_key, options_of
from linfusion_cli.errors import UsageError, option


@pytest.mark.parametrize(
    ("key", "value", "typed"),
    [
        ("loras", None, "--lora"),
        ("size", "8k", "--size 8k"),
        ("negative_prompt", "a b", "--negative-prompt 'a b'"),
        ("overwrite", True, "--overwrite"),
        ("prompt_weights", False, "--no-prompt-weights"),
        ("upscale_image", None, "IMAGE"),
        ("keep_going", None, "--keep-going"),
    ],
)
def test_an_option_of_a_message_is_typed_as_its_flag(key: str, value: str | bool | None, typed: str) -> None:
    assert flag(option(key, value)) == typed


def test_flags_of_a_row() -> None:
    rows = by_key()
    assert flags_of(rows["output"]) == ("--output", "-o")
    assert declarations(rows["keep_projections"]) == ("--keep-projections/--no-keep-projections",)
    assert flags_of(rows["prompt"]) == ()
    assert dashed("n") == "-n"


def test_an_error_is_told_with_flags() -> None:
    assert told(UsageError("x: wrong, see ", option("steps"), parameter="loras")) == "--lora x: wrong, see --steps"
    assert told(option("size")) == "--size"
    assert told("plain --text") == "plain --text"


def test_a_record_does_not_say_which_files_are_written() -> None:
    written = {"output", "o", "overwrite", "stages", "memory-log", "scratch", "log-file"}
    assert not (written | {"lora", "model", "vae", "init-image", "control-image"}) & words_of_pixels()
    assert {"steps", "device", "guidance", "clip-skip", "input-range"} <= words_of_pixels()


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_names_of_other_tools_lead_to_a_flag_of_the_command(command: str) -> None:
    own = {word for row in options_of(command) for word in row.words_of(command)}
    spell = speller(command)
    assert all(spell(word) == word for word in own)
    assert all(spell(other) in own and other not in own for other in other_words(command))
    assert (spell("cfg_scale"), spell("num_inference_steps")) == ("guidance", "steps")


def test_a_strength_is_that_of_the_command() -> None:
    rows = by_key()
    assert flags_of(rows["upscale_strength"], GENERATE) == ("--upscale-strength",)
    assert "--strength" in flags_of(rows["upscale_strength"], UPSCALE)
    assert speller(GENERATE)("denoising-strength") == "strength"
    assert speller(UPSCALE)("denoising-strength") == "denoising-strength"
