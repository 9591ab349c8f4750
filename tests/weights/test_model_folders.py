"""Folders of models in the layouts of AUTOMATIC1111 and ComfyUI: every file is found under its kind and name."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.model_folders import FOLDERS, VARIABLE, ModelFolders, model_roots

pytestmark = pytest.mark.slow  # all of them together

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
@pytest.mark.covers("names of files in a folder of models (A1111, ComfyUI, flat)", "used")
def test_every_file_is_listed_under_its_kind(tmp_path: Path, layout: dict[str, str]) -> None:
    root = made(tmp_path, layout)
    found = {(item.path.relative_to(root).as_posix(), item.kind) for item in ModelFolders((root,)).listed()}
    assert set(layout.items()) <= found
    assert {name for name, _ in found} == set(layout)
    for name, kind in layout.items():
        assert ModelFolders((root,)).path_of(Path(name).stem, kind) == root / name
        assert ModelFolders((root,)).path_of(Path(name).name, kind) == root / name


def test_a_folder_in_diffusers_layout_is_one_model(tmp_path: Path) -> None:
    layout = {f"diffusers/mine/{name}": "" for name in ("model_index.json", "unet/a.safetensors")}
    root = made(tmp_path, layout)
    assert [item.path for item in ModelFolders((root,)).listed()] == [root / "diffusers" / "mine"]


def test_two_of_a_name_and_none(tmp_path: Path) -> None:
    root = made(tmp_path, {"loras/a/armour.safetensors": "", "loras/b/armour.safetensors": ""})
    folders = ModelFolders((root,))
    with pytest.raises(WeightsError, match=r"armour: names 2 files. Give one of: a/armour, b/armour$"):
        folders.path_of("armour", "loras")
    assert folders.path_of("b/armour", "loras") == root / "loras/b/armour.safetensors"
    with pytest.raises(WeightsError, match='Did you mean "armour"'):
        folders.path_of("armor", "loras")
    with pytest.raises(WeightsError, match="See: linfusion models"):
        folders.path_of("x", "model")
    assert ModelFolders(()).find("armour", "loras") is None


def test_the_configured_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    assert model_roots() == ()
    monkeypatch.setenv(VARIABLE, f"{tmp_path}/a:{tmp_path}/b")
    assert model_roots() == (tmp_path / "a", tmp_path / "b")
    with pytest.raises(WeightsError, match=r"a: there is no such folder of models"):
        ModelFolders(model_roots()).listed()
    assert model_roots((tmp_path / "c",)) == (tmp_path / "c",)


def test_a_name_with_its_subfolder(tmp_path: Path) -> None:
    for folder in ("styles", "old/styles", "people"):
        (tmp_path / "loras" / folder).mkdir(parents=True)
    for file in ("styles/ink", "people/ink", "styles/oil", "old/styles/oil"):
        (tmp_path / "loras" / f"{file}.safetensors").touch()
    folders = ModelFolders((tmp_path,))
    for name in ("styles/ink", "styles/ink.safetensors"):
        assert folders.find(name, "loras") == tmp_path / "loras/styles/ink.safetensors"
    assert folders.find("owner/ink", "loras") is None
    with pytest.raises(WeightsError, match="names 2 files"):
        folders.path_of("styles/oil", "loras")


@given(
    st.lists(
        st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join), min_size=1, max_size=6, unique=True
    ),
    st.sampled_from([".safetensors", ".ckpt"]),
)
def test_every_candidate_of_a_refusal_is_accepted_when_it_is_typed(names: list[str], ending: str) -> None:
    with TemporaryDirectory() as folder:
        root = made(Path(folder), {f"loras/{name}/x{ending}": "" for name in names})
        folders = ModelFolders((root,))
        if len(names) == 1:
            assert folders.path_of("x", "loras") == root / "loras" / names[0] / f"x{ending}"
            return
        with pytest.raises(WeightsError) as caught:
            folders.path_of("x", "loras")
        shown = str(caught.value).partition("Give one of: ")[2].partition(" and ")[0].split(", ")
        assert len({folders.path_of(one, "loras") for one in shown}) == min(3, len(names))


def test_a_pickle_that_was_converted_is_the_safetensors_file(tmp_path: Path) -> None:
    root = made(tmp_path, {"loras/old.pt": "", "loras/old.safetensors": "", "loras/other.pt": ""})
    assert ModelFolders((root,)).path_of("old", "loras") == root / "loras" / "old.safetensors"
    assert [item.path.name for item in ModelFolders((root,)).listed("loras")] == ["old.safetensors", "other.pt"]


def test_an_autoencoder_beside_its_checkpoint(tmp_path: Path) -> None:
    root = made(
        tmp_path, {"models/Stable-diffusion/dream.vae.safetensors": "", "models/Stable-diffusion/dream.ckpt": ""}
    )
    assert {item.path.name: item.kind for item in ModelFolders((root,)).listed()} == {
        "dream.vae.safetensors": "vae",
        "dream.ckpt": "model",
    }


@pytest.mark.covers("names of files in a folder of models (A1111, ComfyUI, flat)", "used")
def test_a_flat_folder_goes_by_the_headers(tmp_path: Path) -> None:
    names = {
        "dream": "model.diffusion_model.input_blocks.0.0.weight",
        "styles/ink": "lora_unet_mid_block.lora_down.weight",
        "canny": "controlnet_cond_embedding.conv_in.weight",
        "moody": "emb_params",
    }
    for name, tensor in names.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        save_file({tensor: torch.zeros(2, 2)}, tmp_path / f"{name}.safetensors")
    (tmp_path / "odd.safetensors").write_bytes(b"12345")
    folders = ModelFolders((tmp_path,))
    kinds = {"dream": "model", "styles/ink": "loras", "canny": "controlnets", "moody": "textual_inversions"}
    for name, kind in kinds.items():
        assert folders.path_of(Path(name).name, kind) == tmp_path / f"{name}.safetensors"
        assert all(folders.find(Path(name).name, other) is None for other in FOLDERS if other != kind)
    assert [item.kind for item in folders.listed() if item.name == "odd"] == [""]
    assert folders.path_of("odd", "vae") == tmp_path / "odd.safetensors"  # loading says what is wrong with it


def test_links_that_lead_in_a_circle_end(tmp_path: Path) -> None:
    root = made(tmp_path, {"loras/a/ink.safetensors": ""})
    for name in ("one", "two"):
        (root / "loras" / "a" / name).symlink_to(root / "loras")
    assert [item.name for item in ModelFolders((root,)).listed()] == ["ink"]


def test_files_that_libraries_name_are_called_by_their_folder(tmp_path: Path) -> None:
    root = made(tmp_path, {"loras/ink/pytorch_lora_weights.safetensors": "", "loras/oil/adapter_model.safetensors": ""})
    folders = ModelFolders((root,))
    assert [item.name for item in folders.listed("loras")] == ["ink", "oil"]
    assert folders.path_of("ink", "loras") == root / "loras" / "ink" / "pytorch_lora_weights.safetensors"
