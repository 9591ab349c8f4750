from __future__ import annotations

import inspect
import os
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from linfusion_cli.cli.flags import CONTEXT, complete_preset, output_path, request_of, with_flags
from linfusion_cli.config import options
from linfusion_cli.config.option_row import COMMANDS, OptionRow
from linfusion_cli.config.options import options_of
from linfusion_cli.errors import UsageError


def parsed(command: str, *words: str) -> dict[str, Any]:
    """The flags that a function of this command gets for these words."""
    got: list[dict[str, Any]] = []
    app = typer.Typer()

    @app.command()
    @with_flags(command)
    def run(flags: dict[str, Any], own: bool = False) -> None:
        """Runs."""
        got.append({**flags, "own": own})

    done = CliRunner().invoke(app, list(words))
    assert done.exit_code == 0, done.output
    return got[0]


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_gets_each_of_its_rows_and_its_own(command: str) -> None:
    flags = parsed(command, "--own")
    assert flags.pop("own") is True
    assert list(flags) == [row.key for row in options_of(command)]
    assert flags == {row.key: row.default for row in options_of(command)}


def test_values_have_the_rows_types() -> None:
    flags = parsed("generate", "--steps", "7", "--lora", "a", "--lora", "b:2", "--no-prompt-weights", "-o", "x/")
    assert (flags["steps"], flags["loras"], flags["prompt_weights"], flags["output"]) == (7, ["a", "b:2"], False, "x/")
    assert parsed("plan", "--control-image", "a.png")["control_images"] == [Path("a.png")]


def test_a_request_is_made_of_the_flags() -> None:
    request = request_of("p", parsed_flags("--lora", "a", "--size", "4k"))
    assert (request.prompt, request.loras, request.size, request.control_scales) == ("p", ("a",), "4k", ())


def parsed_flags(*words: str) -> dict[str, Any]:
    return {key: value for key, value in parsed("plan", *words).items() if key != "own"}


def test_the_signature_is_what_typer_reads() -> None:
    @with_flags("plan")
    def run(flags: dict[str, Any]) -> None:
        """Runs."""

    assert list(inspect.signature(run).parameters) == [CONTEXT, *(row.key for row in options_of("plan"))]


def test_an_output_folder_must_be_there(tmp_path: Path) -> None:
    assert output_path(f"{tmp_path}{os.sep}") == tmp_path
    for text in ("", " ", f"{tmp_path}/none/"):
        with pytest.raises(UsageError):
            output_path(text)


def test_preset_names_complete() -> None:
    assert "landscape" in complete_preset("la")
    assert complete_preset("no such") == []


def test_a_new_row_is_a_new_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    row = OptionRow(key="sharpness", kind=float, metavar="X", help="How crisp edges are.")
    monkeypatch.setattr(options, "OPTIONS", (*options.OPTIONS, row))
    assert parsed("generate", "--sharpness", "0.5")["sharpness"] == 0.5
