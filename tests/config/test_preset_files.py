"""Where presets are found, and files that can't be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from preset_text import refusal, written

from linfusion_cli.config.preset_files import preset_chain
from linfusion_cli.config.presets import load_preset

pytestmark = pytest.mark.usefixtures("own_folder")


def test_a_path_in_extends_starts_at_the_file(own_folder: Path) -> None:
    written(own_folder, "[sampling]\nsteps = 3\n", "base.toml")
    chain = preset_chain(written(own_folder, 'extends = "base.toml"\n'))
    assert [layer.path.name for layer in chain] == ["base.toml", "mine.toml"]


def test_a_preset_of_the_user_has_a_name_and_may_build_on_the_shipped_one_of_that_name(own_folder: Path) -> None:
    written(own_folder, 'extends = "sdxl-4k"\n[sampling]\nsteps = 3\n', "sdxl-4k.toml")
    settings = load_preset("sdxl-4k").settings
    assert (settings.sampling.steps, settings.model.family) == (3, "sdxl")


def test_a_circle_is_refused(own_folder: Path) -> None:
    written(own_folder, 'extends = "two.toml"\n', "one.toml")
    written(own_folder, 'extends = "one.toml"\n', "two.toml")
    assert "two.toml, line 1: extends" in refusal(str(own_folder / "one.toml"))
    written(own_folder, 'extends = "self"\n', "self.toml")
    assert "leads back" in refusal("self")


def test_an_unknown_preset_names_the_nearest_and_the_list() -> None:
    assert refusal("sdxl-8kk") == 'unknown preset "sdxl-8kk". Did you mean "sdxl-8k"? List them: linfusion presets list'


@pytest.mark.parametrize("name", ["../landscape", "a/b", "..", "", "~x", "-x", "a b"])
def test_a_name_is_never_a_path(name: str) -> None:
    assert "a name has" in refusal(name)


def test_defaults_are_no_preset() -> None:
    assert "unknown preset" in refusal("defaults")


def test_broken_toml_names_file_and_line(own_folder: Path) -> None:
    assert "mine.toml, line 2: broken TOML" in refusal(written(own_folder, "[sampling]\nsteps = = 3\n"))
    assert "mine.toml, the last line: broken TOML" in refusal(written(own_folder, '[sampling]\nscheduler = "'))


def test_a_file_that_is_missing_or_no_text_is_refused(own_folder: Path) -> None:
    assert "can't be read: No such file" in refusal(str(own_folder / "none.toml"))
    (own_folder / "mine.toml").write_bytes(b"\xff\xfe")
    assert "UTF-8" in refusal(str(own_folder / "mine.toml"))
