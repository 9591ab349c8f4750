"""The table of schedulers: every row names a class of diffusers, without importing it."""

import sys
from subprocess import run

import pytest

from linfusion_cli.config.preset_schema import SamplingSettings
from linfusion_cli.config.schedulers import SCHEDULERS


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_row_names_a_class_and_its_options(name: str) -> None:
    import diffusers

    row = SCHEDULERS[name]
    made = getattr(diffusers, row.class_name)(**row.options)
    assert {option: made.config[option] for option in row.options} == row.options


def test_presets_allow_the_names_of_the_table() -> None:
    allowed = SamplingSettings.model_json_schema()["properties"]["scheduler"]["enum"]
    assert sorted(allowed) == sorted(SCHEDULERS)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, linfusion_cli.config.schedulers; sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0
