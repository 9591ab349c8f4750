"""A user's defaults: variables before the file; what does not fit beside what was typed is put aside."""

from __future__ import annotations

from pathlib import Path

import pytest

from linfusion_cli.config import user_defaults as module
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.request import Request
from linfusion_cli.config.user_defaults import (
    GROUPS,
    UserDefault,
    fitting,
    rows_with_defaults,
    unknown_variables,
    user_defaults,
    variable_of,
)
from linfusion_cli.errors import UsageError


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(module, "config_file", lambda: tmp_path / "config.toml")
    return tmp_path / "config.toml"


def test_without_file_and_variables_there_is_none(file: Path) -> None:
    assert user_defaults({}) == {}


@pytest.mark.parametrize("home", ["/dev/null", "file"])
def test_a_home_that_is_a_file_holds_none(home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(module, "config_file", lambda: tmp_path / home / "linfusion" / "config.toml")
    assert user_defaults({}) == {}


def test_a_variable_beats_the_file(file: Path) -> None:
    file.write_text('steps = 7\ncfg-scale = 3\nlora = ["a", "b:0.5"]\nprompt_weights = true\nscratch = "/x"\n')
    found = user_defaults({"LINFUSION_STEPS": "9", "LINFUSION_LORAS": "c:1, d", "LINFUSION_PROMPT_WEIGHTS": ""})
    assert found["steps"] == UserDefault(9, "LINFUSION_STEPS")
    assert found["guidance"] == UserDefault(3.0, str(file))
    assert found["loras"].value == ["c:1", "d"]
    assert found["prompt_weights"].value is True
    assert found["scratch_folder"].value == Path("/x")


def test_a_variable_puts_aside_what_the_file_says_of_its_group(file: Path) -> None:
    file.write_text('size = "4k"\npreset = "sdxl-4k"\n')
    assert user_defaults({"LINFUSION_ASPECT": "1:1"}).keys() == {"preset", "aspect"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stps = 3", 'unknown key "stps". Did you mean "steps"?'),
        ("steps = 3000", "write a whole number from 1 to 500. Nearest: 500"),
        ("steps = 2.5", "write a whole number"),
        ("steps = true", "write a whole number"),
        ('overwrite = "maybe"', "write true or false"),
        ("steps = [1, 2]", "write a whole number"),
        ("guidance = 3\ncfg = 4", "guidance is given twice"),
        ("steps 3", "broken TOML"),
        ('output = "a.png"', 'unknown key "output"'),
    ],
)
def test_what_can_not_be_is_refused_with_the_file(text: str, message: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(UsageError) as error:
        user_defaults({})
    assert str(error.value).startswith(str(file))
    assert message in str(error.value)


def test_a_wrong_variable_is_named(file: Path) -> None:
    with pytest.raises(UsageError, match="LINFUSION_STEPS = 'many': write a whole number from 1 to 500"):
        user_defaults({"LINFUSION_STEPS": "many"})
    assert unknown_variables({"LINFUSION_STEP": "1", "LINFUSION_MODELS": "/x", "OTHER": "1"}) == {
        "LINFUSION_STEP": "LINFUSION_STEPS"
    }


def test_what_was_typed_puts_the_rest_of_its_group_aside() -> None:
    found = {key: UserDefault("x", "file") for key in ("size", "preset", "steps", "init_strength", "ip_scale")}
    keys = {row.key for row in all_rows()}
    assert fitting(found, ["aspect"], keys).keys() == {"preset", "steps"}
    assert fitting(found, ["model", "steps"], keys).keys() == {"size"}
    assert fitting(found, ["init_image"], keys).keys() == {"size", "preset", "steps", "init_strength"}
    assert fitting(found, [], {"steps"}).keys() == {"steps"}


def test_the_names_are_options() -> None:
    keys = {row.key for row in rows_with_defaults()}
    assert set().union(*GROUPS) <= keys
    owners = {row.belongs_to for row in rows_with_defaults() if row.belongs_to}
    assert {"controlnets", "ip_adapter"} < owners <= keys
    assert keys <= set(Request.__dataclass_fields__)
    assert len({variable_of(row) for row in rows_with_defaults()}) == len(keys)


def test_settings_and_presets_lie_in_one_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """On every system: Windows has two kinds of folders, of which one follows the user."""
    from platformdirs.windows import Windows

    from linfusion_cli.config.preset_files import user_folder
    from linfusion_cli.config.user_defaults import config_file

    assert config_file().parent == user_folder().parent
    monkeypatch.setattr(
        "platformdirs.user_config_path", lambda *words, **more: Windows(*words, **more).user_config_path
    )
    monkeypatch.setattr("platformdirs.windows.get_win_folder", lambda name: f"C:/{name}")
    assert str(config_file()).replace("\\", "/") == "C:/CSIDL_APPDATA/linfusion/config.toml"
    assert str(user_folder()).replace("\\", "/") == "C:/CSIDL_APPDATA/linfusion/presets"


def test_a_file_that_may_not_be_read_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, most_bytes: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "read_input", refuse)
    with pytest.raises(UsageError, match=r"Permission denied\. Set HOME to a folder of your own"):
        user_defaults({})
