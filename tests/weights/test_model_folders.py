"""Folders of models in the layouts of AUTOMATIC1111 and ComfyUI: every file is found under its kind and name."""

from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights import model_folders
from linfusion_cli.weights.model_folders import VARIABLE, listed, model_roots, path_of

A1111 = {
    "models/Stable-diffusion/dream.safetensors": "model",
    "models/Stable-diffusion/sub/old.ckpt": "model",
    "models/Lora/armour.safetensors": "loras",
    "models/LyCORIS/style.safetensors": "loras",
    "models/VAE/mse.safetensors": "vae",
    "models/ControlNet/canny.pth": "controlnets",
    "embeddings/moody.pt": "textual_inversions",
}
COMFY = {
    "checkpoints/dream.safetensors": "model",
    "loras/sd15/armour.safetensors": "loras",
    "vae/mse.safetensors": "vae",
    "controlnet/canny.safetensors": "controlnets",
    "clip_vision/h.safetensors": "ip_encoder",
    "ipadapter/plus.safetensors": "ip_adapter",
    "embeddings/moody.safetensors": "textual_inversions",
}


def made(root: Path, names: dict[str, str]) -> Path:
    for name in [*names, "models/Lora/armour.txt", "output/image.png"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.mark.parametrize("layout", [A1111, COMFY, {f"models/{name}": kind for name, kind in COMFY.items()}])
def test_every_file_is_listed_under_its_kind(tmp_path: Path, layout: dict[str, str]) -> None:
    root = made(tmp_path, layout)
    found = {(item.path.relative_to(root).as_posix(), item.kind) for item in listed((root,))}
    assert set(layout.items()) <= found
    assert {name for name, _ in found} == set(layout)
    for name, kind in layout.items():
        assert path_of(Path(name).stem, kind, (root,)) == root / name
        assert path_of(Path(name).name, kind, (root,)) == root / name


def test_a_folder_in_diffusers_layout_is_one_model(tmp_path: Path) -> None:
    layout = {f"diffusers/mine/{name}": "" for name in ("model_index.json", "unet/a.safetensors")}
    root = made(tmp_path, layout)
    assert [item.path for item in listed((root,))] == [root / "diffusers" / "mine"]


def test_two_of_a_name_and_none(tmp_path: Path) -> None:
    root = made(tmp_path, {"loras/a/armour.safetensors": "", "loras/b/armour.safetensors": ""})
    with pytest.raises(WeightsError, match=r"names 2 files: .*a/armour\.safetensors and .*b/armour\.safetensors"):
        path_of("armour", "loras", (root,))
    with pytest.raises(WeightsError, match='Did you mean "armour"'):
        path_of("armor", "loras", (root,))
    with pytest.raises(WeightsError, match="See: linfusion models"):
        path_of("x", "model", (root,))
    assert path_of("x", "model", ()) is None


def test_the_configured_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert model_roots() == ()
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/a:{tmp_path}/b")
    assert model_roots() == (tmp_path / "a", tmp_path / "b")
    with pytest.raises(WeightsError, match=r"a: there is no such folder of models"):
        listed(model_roots())


def test_a_name_with_its_subfolder(tmp_path: Path) -> None:
    for folder in ("styles", "old/styles", "people"):
        (tmp_path / "loras" / folder).mkdir(parents=True)
    for file in ("styles/ink", "people/ink", "styles/oil", "old/styles/oil"):
        (tmp_path / "loras" / f"{file}.safetensors").touch()
    roots = (tmp_path,)
    for name in ("styles/ink", "styles/ink.safetensors"):
        assert model_folders.path_inside(name, "loras", roots) == tmp_path / "loras/styles/ink.safetensors"
    assert model_folders.path_inside("owner/ink", "loras", roots) is None
    with pytest.raises(WeightsError, match="names 2 files"):
        model_folders.path_inside("styles/oil", "loras", roots)
