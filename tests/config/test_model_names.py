"""Names of files in the configured folder stand for their paths, in every option of weights."""

from pathlib import Path

import pytest

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.model_names import configured_folders, load_named, with_paths
from linfusion_cli.config.options import all_rows
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.config.user_defaults import config_file
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.model_folders import FOLDERS, ModelFolders, model_roots


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("checkpoints/dream", "loras/armour", "loras/v1.5", "vae/mse", "embeddings/moody"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setenv("LINFUSION_MODELS", str(tmp_path))
    return tmp_path


def folders() -> ModelFolders:
    return ModelFolders(model_roots())


def test_every_option_of_weights_takes_names() -> None:
    assert {row.key for row in all_rows() if row.names_weights} == set(FOLDERS)
    assert all(row.preset_key for row in all_rows() if row.names_weights)


def test_names_become_paths(folder: Path) -> None:
    loras = (
        "armour",
        "armour:0.8",
        "armour.safetensors:0.8:-0.5",
        "v1.5:.5",
        "armour@upscale",
        "armour:0.8@base",
    )
    found = with_paths(
        Request(prompt="x", model="dream", vae="mse", loras=loras, textual_inversions=("moody:<m>",)), folders()
    )
    assert found.model == str(folder / "checkpoints" / "dream.safetensors")
    assert found.vae == str(folder / "vae" / "mse.safetensors")
    armour = folder / "loras" / "armour.safetensors"
    expected = (
        str(armour),
        f"{armour}:0.8",
        f"{armour}:0.8:-0.5",
        f"{folder / 'loras' / 'v1.5.safetensors'}:.5",
        f"{armour}@upscale",
        f"{armour}:0.8@base",
    )
    assert found.loras == expected
    assert found.textual_inversions == (f"{folder / 'embeddings' / 'moody.safetensors'}:<m>",)


def test_what_is_no_name_stays(folder: Path) -> None:
    path = str(folder / "vae" / "mse.safetensors")
    request = Request(prompt="x", model="owner/name", vae=path, linfusion="none", loras=("https://huggingface.co/a/b",))
    assert with_paths(request, folders()) == request
    with pytest.raises(WeightsError, match='Did you mean "dream"'):
        with_paths(Request(prompt="x", model="draem"), folders())


def test_without_a_folder_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINFUSION_MODELS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    request = Request(prompt="x", model="dream")
    assert with_paths(request, folders()) == request


def test_the_folders_of_the_request_beat_those_of_the_variable(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "loras" / "steel.safetensors"
    other.parent.mkdir(parents=True)
    other.touch()
    asked = Request(prompt="x", models=(tmp_path / "other",), loras=("steel:0.5",))
    assert resolve(asked).settings.extras.loras == (f"{other}:0.5",)
    with pytest.raises(WeightsError, match="there is none of that name"):
        resolve(Request(prompt="x", models=(tmp_path / "other",), loras=("armour",)))


def test_a_preset_takes_names(folder: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('extends = "landscape"\n[model]\nvae = "mse"\n[extras]\nloras = ["armour:0.8"]\n')
    loaded = load_named(str(preset), folders())
    assert loaded.settings.extras.loras == (f"{folder / 'loras' / 'armour.safetensors'}:0.8",)
    assert loaded.settings.model.vae == str(folder / "vae" / "mse.safetensors")
    assert loaded.settings == resolve(Request(prompt="x", preset=str(preset))).settings


def test_a_preset_with_a_wrong_name_is_told_its_line(folder: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('extends = "landscape"\n[extras]\nloras = ["armor:0.8"]\n')
    with pytest.raises(WeightsError) as caught:
        resolve(Request(prompt="x", preset=str(preset)))
    assert told(caught.value).startswith(f"{preset}, line 3: extras.loras: armor: there is none of that name")
    assert 'Did you mean "armour"?' in told(caught.value)


def test_a_list_of_alternatives_takes_the_first_that_is_here(folder: Path, tmp_path: Path) -> None:
    preset = tmp_path / "mine.toml"
    preset.write_text('extends = "sd15-4k"\n[model]\nrepositories = ["gone", "dream", "owner/name"]\n')
    found = load_named(str(preset), folders()).settings.model.repositories
    assert found == ("gone", str(folder / "checkpoints" / "dream.safetensors"), "owner/name")


def test_the_folders_of_the_users_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINFUSION_MODELS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert configured_folders().roots == ()
    config_file().parent.mkdir(parents=True)
    config_file().write_text('models = ["/a:b", "/c"]\n')
    assert configured_folders().roots == (Path("/a:b"), Path("/c"))
    config_file().write_text('models = "~/models"\n')
    assert configured_folders().roots == (Path.home() / "models",)
    monkeypatch.setenv("LINFUSION_MODELS", "/d,e:/f")
    assert configured_folders().roots == (Path("/d,e"), Path("/f"))
