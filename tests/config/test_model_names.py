"""Names of files in the configured folder stand for their paths, in every option of weights."""

from pathlib import Path

import pytest

from linfusion_cli.config.model_names import with_paths
from linfusion_cli.config.request import Request
from linfusion_cli.errors import WeightsError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("checkpoints/dream", "loras/armour", "loras/v1.5", "vae/mse", "embeddings/moody"):
        path = tmp_path / f"{name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        path.touch()
    monkeypatch.setenv("LINFUSION_MODELS", str(tmp_path))
    return tmp_path


def test_names_become_paths(folder: Path) -> None:
    loras = ("armour", "armour:0.8", "armour.safetensors:0.8:-0.5", "v1.5:.5")
    found = with_paths(Request(prompt="x", model="dream", vae="mse", loras=loras, textual_inversions=("moody:<m>",)))
    assert found.model == str(folder / "checkpoints" / "dream.safetensors")
    assert found.vae == str(folder / "vae" / "mse.safetensors")
    armour = folder / "loras" / "armour.safetensors"
    expected = (str(armour), f"{armour}:0.8", f"{armour}:0.8:-0.5", f"{folder / 'loras' / 'v1.5.safetensors'}:.5")
    assert found.loras == expected
    assert found.textual_inversions == (f"{folder / 'embeddings' / 'moody.safetensors'}:<m>",)


def test_what_is_no_name_stays(folder: Path) -> None:
    path = str(folder / "vae" / "mse.safetensors")
    request = Request(prompt="x", model="owner/name", vae=path, linfusion="none", loras=("https://huggingface.co/a/b",))
    assert with_paths(request) == request
    with pytest.raises(WeightsError, match='Did you mean "dream"'):
        with_paths(Request(prompt="x", model="draem"))


def test_without_a_folder_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LINFUSION_MODELS", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    request = Request(prompt="x", model="dream")
    assert with_paths(request) is request
