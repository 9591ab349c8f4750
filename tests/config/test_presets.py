"""Presets: layers, places and messages."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from preset_text import refusal, written

from linfusion_cli.config.preset_files import preset_files, shipped_folder
from linfusion_cli.config.preset_schema import schema
from linfusion_cli.config.presets import Given, load_preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import option

pytestmark = pytest.mark.usefixtures("own_folder")


def test_defaults_name_every_key_of_the_schema_and_nothing_else() -> None:
    data = tomllib.loads((shipped_folder() / "defaults.toml").read_text())
    assert [f"{section}.{key}" for section, table in data.items() for key in table] == list(schema())


def test_every_key_of_the_defaults_has_a_comment_above_it() -> None:
    lines = (shipped_folder() / "defaults.toml").read_text().splitlines()
    assert all(
        lines[i - 1].startswith("#") for i, line in enumerate(lines) if " = " in line and not line.startswith("#")
    )


@pytest.mark.parametrize("name", sorted(path.stem for path in shipped_folder().glob("*.toml")))
def test_every_shipped_preset_resolves(name: str) -> None:
    if name == "defaults":
        assert name not in preset_files()
    else:
        assert resolve(Request(prompt="x", preset=name)).size.width >= 3840


def test_landscape_is_as_documented() -> None:
    settings = load_preset("landscape").settings
    assert settings.sampling.guidance_interval == (0.3, 1.0)
    assert (settings.model.train_size_px, settings.sampling.steps, settings.upscale.strength) == (128, 20, 0.4)


def test_the_file_beats_the_defaults_and_the_flag_beats_the_file(own_folder: Path) -> None:
    path = written(own_folder, '[sampling]\nsteps = 7\nscheduler = "euler"\n')
    loaded = load_preset(path, {"sampling.steps": Given(option="steps", value=9)})
    assert (loaded.settings.sampling.steps, loaded.sources["sampling.steps"]) == (9, option("steps"))
    assert (loaded.settings.sampling.scheduler, loaded.sources["sampling.scheduler"]) == ("euler", f"preset {path}")
    assert loaded.sources["upscale.factor"] == "defaults.toml"


def test_a_preset_extends_another() -> None:
    loaded = load_preset("sdxl-16k")
    assert (loaded.settings.output.size, loaded.settings.upscale.strength) == ("16k", 0.32)
    assert (loaded.sources["output.size"], loaded.sources["upscale.strength"]) == ("preset sdxl-16k", "preset sdxl-4k")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[sampling]\nstpes = 3\n", 'line 2: unknown key "sampling.stpes". Did you mean "sampling.steps"?'),
        ("[samplin]\nsteps = 3\n", 'line 1: unknown key "samplin". Did you mean "sampling"?'),
        ("steps = 3\n", 'line 1: unknown key "steps".'),
        ("sampling = 3\n", "line 1: sampling = 3: sampling is a section; write [sampling]"),
        ("extends = 3\n", "line 1: extends = 3: write the name of one preset in quotes"),
        ("\n[sampling]\nsteps = 0\n", "line 3: sampling.steps = 0: write a whole number from 1 to 500. Nearest: 3"),
        ("[sampling]\nsteps = 2000\n", "Nearest: 500"),
        ("[sampling]\nsteps = true\n", "sampling.steps = true: write a whole number from 1 to 500."),
        ('[sampling]\nsteps = "3"\n', 'sampling.steps = "3": write a whole number from 1 to 500.'),
        ("[sampling]\nguidance_scale = nan\n", "guidance_scale = nan: write a number from 0 to 100."),
        ('[sampling]\nscheduler = "eulr"\n', 'Did you mean "euler"?'),
        ("[sampling]\nguidance_interval = [0.9, 0.1]\n", "two numbers [low, high] with 0 <= low <= high <= 1"),
        ("[sampling]\nguidance_interval = [0.9]\n", "two numbers [low, high]"),
        ("[model]\ntrain_size_px = 500\n", "Nearest: 496"),
        ("[model]\nrepositories = []\n", "a list of 1 or more names"),
        ('[model]\nloras = ["a:9@upscale"]\n', "Each is LOCATION[:WEIGHT][@base|@upscale], a weight from -8 to 8."),
        ('[model]\nloras = ["a:1@hires"]\n', "Each is LOCATION[:WEIGHT][@base|@upscale], a weight from -8 to 8."),
        ('[model]\nrepositories = ["builtin:castle"]\n', 'Each is a hub name, a folder or "builtin:landscape".'),
        ("[model]\nlinfusion = []\n", "model.linfusion is empty: linear attention needs one"),
        (
            '[model]\nfamily = "sdxl"\n',
            'line 2: model.family = "sdxl", but "builtin:landscape" is of the family "sd15"',
        ),
        ('[model]\nvariant = "fp32"\n', 'variant = "fp32": write one of fp16, "".'),
        ("[upscale]\nmatch_statistics = 1\n", "match_statistics = 1: write true or false."),
        ("upscale.factor = 9\n", "line 1: upscale.factor = 9: write a number from 1.1 to 4. Nearest: 4"),
    ],
)
def test_a_bad_file_is_refused_with_the_line_and_what_is_allowed(own_folder: Path, text: str, words: str) -> None:
    message = refusal(written(own_folder, text))
    assert words in message
    assert str(own_folder / "mine.toml") in message


def test_settings_are_frozen() -> None:
    settings = load_preset("landscape").settings
    with pytest.raises(ValueError, match="frozen"):
        settings.sampling.steps = 3
