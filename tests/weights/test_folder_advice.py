"""Folders that people take for a model's: each message names what to name instead."""

from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.folder_advice import refuse_cache_folder, refuse_no_model
from linfusion_cli.weights.locate import find
from linfusion_cli.weights.weight_file import family_of_model


def make(root: Path, *files: str) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("{}")
    return root


@pytest.mark.covers("folders of the hub's cache, folders without a model", "refused")
def test_a_folder_of_the_cache(tmp_path: Path) -> None:
    hub = make(tmp_path / "hub", "models--owner--name/snapshots/1/model_index.json")
    with pytest.raises(WeightsError, match=r"Name the repository: owner/name$"):
        find(str(hub / "models--owner--name"))
    with pytest.raises(WeightsError, match=r"Name one repository of it, such as: owner/name$"):
        find(str(hub))
    refuse_cache_folder(hub / "models--owner--name" / "snapshots" / "1")


@pytest.mark.parametrize(
    ("files", "said"),
    [
        (("transformer/config.json",), "Stable Diffusion 3 and Flux"),
        (("a/unet/config.json",), "Name one: .*/a$"),
        (("config.json", "model.safetensors"), "Name the folder above it"),
        (("a.safetensors", "b.ckpt"), r'Name a file in it: "?a\.safetensors'),
        (("notes.txt",), "no model in it"),
    ],
)
@pytest.mark.covers("folders of the hub's cache, folders without a model", "refused")
def test_a_folder_without_a_unet(tmp_path: Path, files: tuple[str, ...], said: str) -> None:
    make(tmp_path, *files)
    with pytest.raises(WeightsError, match=said):
        family_of_model(tmp_path)


def test_a_model_passes(tmp_path: Path) -> None:
    refuse_no_model(make(tmp_path, "unet/config.json"))
