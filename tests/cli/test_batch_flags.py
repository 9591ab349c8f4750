"""The flags of a batch beside those of an image: each is in the help, with a text of its own."""

import inspect
from typing import get_args

import pytest
import typer

from linfusion_cli.cli import batch_flags
from linfusion_cli.cli.batch import batch

FLAGS = {name: flag for name, flag in vars(batch_flags).items() if name.endswith(("Flag", "Argument"))}


@pytest.mark.parametrize("name", FLAGS)
def test_each_has_help_of_its_own(name: str) -> None:
    kind, about = get_args(FLAGS[name])
    assert isinstance(about, typer.models.ParameterInfo), kind
    assert about.help
    assert about.help.endswith(".")
    assert [get_args(flag)[1].help for flag in FLAGS.values()].count(about.help) == 1


def test_the_command_takes_each() -> None:
    taken = [parameter.annotation for parameter in inspect.signature(batch).parameters.values()]
    assert [name for name, flag in FLAGS.items() if flag not in taken] == []
