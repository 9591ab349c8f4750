"""Whatever "Did you mean" or "Nearest" offers is accepted when it is typed, and nothing is offered by chance."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from typer.exceptions import TyperException
from typer.main import get_command

from linfusion_cli import api
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.task_list import NAME_TEMPLATE, make_tasks
from linfusion_cli.cli.app import app
from linfusion_cli.cli.foreign_flags import unknown_flag
from linfusion_cli.cli.spelling import other_words
from linfusion_cli.config.choices import OTHER_WORDS
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.preset_files import preset_files
from linfusion_cli.config.preset_schema import schema
from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.sampler_names import sampler_named
from linfusion_cli.errors import UsageError, nearest_name
from linfusion_cli.geometry import parse_size

COMMANDS = ("generate", "upscale", "batch", "plan")
CHOICES = {row.key: row for row in all_rows() if row.choices and not row.repeatable and row.kind is str}
MEANT = re.compile(r'Did you mean "?([^"?]+)"?\?')
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789-_"
SHARED = settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def misspelled(draw: Callable[[Any], Any], words: list[str]) -> str:
    """A word with one letter left out, put in, exchanged for another or for its neighbour, or in capitals."""
    word: str = draw(st.sampled_from(words))
    place = draw(st.integers(0, max(0, len(word) - 2)))
    letter = draw(st.sampled_from(LETTERS))
    swapped = word[:place] + word[place + 1 : place + 2] + word[place : place + 1] + word[place + 2 :]
    changed = (
        word[:place] + word[place + 1 :],
        word[:place] + letter + word[place:],
        word[:place] + letter + word[place + 1 :],
        swapped,
        word.upper(),
    )
    return str(draw(st.sampled_from(changed)))


@cache
def command_named(name: str) -> Any:
    commands: Any = get_command(app)
    return commands.commands[name]


@cache
def flags_of(command: str) -> list[str]:
    """Every long flag of a command, with the words of other tools that it understands."""
    opts = [flag for one in command_named(command).params for flag in (*one.opts, *one.secondary_opts)]
    return [flag for flag in opts if flag.startswith("--")] + [f"--{word}" for word in other_words(command)]


def said_of(command: str, flag: str) -> str:
    """What is said of a flag that the command lacks; "" for one that it has. Nothing is run."""
    try:
        command_named(command).make_context(command, ["x", flag])
    except TyperException as error:
        return unknown_flag(error)
    return ""


@pytest.mark.parametrize("command", COMMANDS)
@SHARED
@given(data=st.data())
def test_a_suggested_flag_is_one_of_the_command(command: str, data: st.DataObject) -> None:
    flags = flags_of(command)
    typed = data.draw(misspelled([flag.removeprefix("--") for flag in flags]))
    assume(typed and not typed.startswith("-"))
    if meant := MEANT.search(said_of(command, f"--{typed}")):
        assert meant[1] in flags
        assert said_of(command, meant[1]) == ""


def refusal(**values: Any) -> str:
    try:
        resolve(Request(prompt="a lake", seed=1, **values))
    except UsageError as error:
        return str(error)
    return ""


@SHARED
@given(
    st.sampled_from(sorted(CHOICES)).flatmap(lambda key: st.tuples(st.just(key), misspelled([*CHOICES[key].choices])))
)
def test_a_suggested_word_is_one_of_the_choices(typed: tuple[str, str]) -> None:
    key, word = typed
    said = refusal(**{key: word})
    meant = MEANT.search(said)
    if meant and "write one of" in said:
        assert meant[1] in CHOICES[key].choices
        assert "write one of" not in refusal(**{key: meant[1]})


@SHARED
@given(misspelled(list(preset_files())))
def test_a_suggested_preset_can_be_loaded(name: str) -> None:
    try:
        load_preset(name)
    except UsageError as error:
        if meant := MEANT.search(str(error)):
            load_preset(meant[1])


@SHARED
@given(data=st.data())
def test_a_suggested_key_of_a_preset_is_one(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    section, _, name = data.draw(st.sampled_from(sorted(schema()))).partition(".")
    path = tmp_path_factory.mktemp("preset") / "own.toml"
    path.write_text(f'[{section}]\n"{data.draw(misspelled([name]))}" = 1\n')
    try:
        load_preset(str(path))
    except UsageError as error:
        if meant := MEANT.search(str(error)):
            assert meant[1] in schema()


@SHARED
@given(misspelled([name for row in all_rows() if row.in_batch_rows for name in row.batch_names]))
def test_a_suggested_key_of_a_list_is_understood(key: str) -> None:
    assume(key.strip())
    problems: list[str] = []
    make_tasks([Row("a:1", {"prompt": "x", key: "1"})], {}, NAME_TEMPLATE, lambda ids: {}, problems)
    meant = MEANT.search(" ".join(problems))
    if meant and "unknown key" in problems[0]:
        again: list[str] = []
        make_tasks([Row("a:1", {"prompt": "x", meant[1]: "1"})], {}, NAME_TEMPLATE, lambda ids: {}, again)
        assert "unknown key" not in " ".join(again)


@SHARED
@given(misspelled([row.key for row in all_rows()]))
def test_a_suggested_option_of_python_is_one(name: str) -> None:
    assume(name not in {row.key for row in all_rows()})
    with pytest.raises(UsageError) as raised:
        api.plan("x", **{name: 1})
    if meant := MEANT.search(str(raised.value)):
        assert meant[1] in {row.key for row in all_rows()}


@given(st.integers(-99, 40_000), st.integers(-99, 40_000))
def test_a_suggested_size_can_be_parsed(width: int, height: int) -> None:
    try:
        parse_size(f"{width}x{height}")
    except UsageError as error:
        if nearest := re.search(r"Nearest: (\d+x\d+)", str(error)):
            parse_size(nearest[1])


@pytest.mark.parametrize("row", [row for row in all_rows() if row.range], ids=lambda row: row.key)
@given(value=st.floats(-1e6, 1e10))
def test_a_suggested_number_is_in_its_range(row: Any, value: float) -> None:
    number = round(value) if row.kind is int else value
    if number not in row.range and (nearest := row.range.nearest(number)):
        assert row.kind(nearest) in row.range


@pytest.mark.parametrize(
    ("given_name", "allowed", "meant"),
    [
        ("n_iter", ["ip_adapter", "init_image", "width"], ""),
        ("width", ["bits", "size"], ""),
        ("batch_size", ["size", "steps"], ""),
        ("SDXL 4K", ["sdxl-4k", "sdxl-8k"], "sdxl-4k"),
        ("stpes", ["stages", "steps"], "steps"),
        ("cfg", ["cfg_scale", "config"], "cfg_scale"),
        ("fp16", ["float16", "bfloat16"], "float16"),
    ],
)
def test_nothing_is_offered_by_chance(given_name: str, allowed: list[str], meant: str) -> None:
    assert nearest_name(given_name, allowed, OTHER_WORDS) == meant


def test_names_of_other_tools_come_first() -> None:
    sampler = sampler_named("Euler a")
    assert sampler
    assert sampler.scheduler == "euler_ancestral"
    assert 'Did you mean "float16"?' in refusal(dtype="fp16")
    assert 'Did you mean "cuda"?' in refusal(device="gpu")
    for other, word in OTHER_WORDS.items():
        assert other not in {choice for row in all_rows() for choice in row.choices}, word
