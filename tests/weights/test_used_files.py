"""Which files of a folder are read: the parts of a model in one variant, and the one file of an adapter."""

from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.used_files import used_files


def made(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(("variant", "ending"), [("", ".safetensors"), ("fp16", ".fp16.safetensors")])
def test_the_parts_of_a_model_in_one_variant(tmp_path: Path, variant: str, ending: str) -> None:
    stems = ("unet/diffusion_pytorch_model", "text_encoder/model")
    made(tmp_path, *(f"{stem}{end}" for stem in stems for end in (".safetensors", ".fp16.safetensors")))
    made(tmp_path, "safety_checker/model.safetensors")
    names = [path.relative_to(tmp_path).as_posix() for path in used_files(tmp_path, "model", "sd15", variant)]
    assert names == [f"{stem}{ending}" for stem in stems]


@pytest.mark.parametrize("parameter", ["lora", "textual_inversion"])
def test_one_file_by_itself(tmp_path: Path, parameter: str) -> None:
    made(tmp_path, "a.safetensors", "b.txt")
    assert used_files(tmp_path, parameter, "", "") == (tmp_path / "a.safetensors",)
    assert used_files(tmp_path / "a.safetensors", parameter, "", "") == (tmp_path / "a.safetensors",)
    made(tmp_path, "b.safetensors")
    with pytest.raises(WeightsError, match=r"one \.safetensors file is required"):
        used_files(tmp_path, parameter, "", "")


def test_an_autoencoder_alone_or_in_a_model(tmp_path: Path) -> None:
    made(tmp_path, "diffusion_pytorch_model.safetensors")
    assert used_files(tmp_path, "vae", "", "fp16") == (tmp_path / "diffusion_pytorch_model.safetensors",)
    made(tmp_path, "vae/diffusion_pytorch_model.fp16.safetensors")
    assert used_files(tmp_path, "vae", "", "fp16") == (tmp_path / "vae/diffusion_pytorch_model.fp16.safetensors",)


def test_a_missing_part_has_no_files(tmp_path: Path) -> None:
    assert used_files(tmp_path, "model", "sd15", "") == ()
    assert used_files(tmp_path, "controlnet", "sd15", "") == ()
