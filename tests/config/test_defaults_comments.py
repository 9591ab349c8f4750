from __future__ import annotations

import tomllib

from linfusion_cli.config.defaults_comments import COLUMNS, commented
from linfusion_cli.config.preset_files import shipped_folder

TEXT = (shipped_folder() / "defaults.toml").read_text()


def test_the_comments_of_the_defaults_are_those_of_the_tables() -> None:
    assert commented(TEXT) == TEXT, "make reference"


def test_values_stay_and_foreign_comments_go() -> None:
    text = commented("# of an earlier version\n\n[sampling]\n# odd\nsteps = 7\n")
    assert tomllib.loads(text) == {"sampling": {"steps": 7}}
    assert "odd" not in text
    assert "# Denoising steps of the first stage." in text


def test_lines_fit() -> None:
    assert all(len(line) <= COLUMNS for line in TEXT.splitlines())
