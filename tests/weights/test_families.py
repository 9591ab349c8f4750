"""One table says what differs between families: other modules branch on its columns, never on a family's name."""

import re
from pathlib import Path
from typing import get_args

import pytest

from linfusion_cli.config.choices import Family
from linfusion_cli.models import family_folder
from linfusion_cli.planning.model_shapes import family_architecture
from linfusion_cli.weights.families import FAMILY_ROWS

PACKAGE = Path(__file__).parents[2] / "linfusion_cli"
BRANCH = re.compile(r"""(==|!=|\bin) *\(?["'](sd15|sd21|sdxl)["']""")


@pytest.mark.parametrize("name", FAMILY_ROWS)
def test_a_row_has_its_shapes_its_configs_and_its_preset(name: str) -> None:
    row = FAMILY_ROWS[name]
    assert name in get_args(Family)
    assert family_architecture(name).unet.text_dim == row.text_dim
    assert (family_folder(name) / "text_encoder_2").is_dir() == row.two_text_encoders
    assert (PACKAGE.parent / "presets" / f"{row.preset}.toml").is_file()


def test_all_families_have_a_row() -> None:
    assert set(FAMILY_ROWS) == set(get_args(Family))


def test_no_module_branches_on_a_family_s_name() -> None:
    assert [path for path in sorted(PACKAGE.rglob("*.py")) if BRANCH.search(path.read_text())] == []


def test_a_branch_would_be_found() -> None:
    assert BRANCH.search('if family == "sdxl":')
