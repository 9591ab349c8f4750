"""Choices of several commands: the same letters, limits and words wherever they are offered."""

import pytest
import typer
from typer.testing import CliRunner

from linfusion_cli.cli.shared_options import Precision, QuietFlag

app = typer.Typer()


@app.command()
def show(quiet: QuietFlag = False, precision: Precision = Precision.no) -> None:
    typer.echo(f"{quiet} {precision.value}")


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, words)
    return done.exit_code, done.output


def test_defaults_and_short_flags() -> None:
    assert run() == (0, "False no\n")
    assert run("-q", "--precision", "bf16") == (0, "True bf16\n")


@pytest.mark.parametrize("words", [("--precision", "fp8"), ("--precision", "16")])
def test_what_is_out_of_range_is_refused_by_its_flag(words: tuple[str, str]) -> None:
    code, output = run(*words)
    assert code == 2
    assert words[0] in output


def test_the_numbers_are_those_that_accelerate_knows() -> None:
    from accelerate.utils import PrecisionType

    assert {one.value for one in Precision} < set(PrecisionType.list())
