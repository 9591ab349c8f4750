"""WeightFile: found once, refused by name when it is another file later."""

import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.weight_file import WeightFile, family_of_model, headers_in, known_family


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(2)}, file)
    return file


def resolved(path: Path) -> WeightFile:
    return WeightFile.resolve(("nobody/nothing", str(path)), "", "lora")


def test_the_first_location_on_this_machine_is_taken(path: Path) -> None:
    weights = resolved(path)
    assert weights.open() == path
    assert pickle.loads(pickle.dumps(weights)) == weights


def test_missing_weights_are_named_with_the_command_that_fetches_them() -> None:
    weights = WeightFile.resolve(("nobody/nothing",), "v2", "lora")
    with pytest.raises(WeightsError, match=r"nobody/nothing.*linfusion fetch lora=.nobody/nothing@v2"):
        weights.open()


@pytest.mark.parametrize("change", ["size", "time", "gone", "renamed in a folder"])
def test_changed_weights_are_named(path: Path, change: str) -> None:
    inside = change == "renamed in a folder"
    weights = resolved(path.parent if inside else path)
    if change == "size":
        save_file({"a": torch.zeros(3)}, path)
    elif change == "time":
        os.utime(path, ns=(1, 1))
    elif change == "gone":
        path.unlink()
    else:
        path.rename(path.with_name("b.safetensors"))
    with pytest.raises(WeightsError, match=r"these weights changed since the plan was made\. Plan again") as caught:
        weights.open()
    assert str(path.parent if inside else path) in str(caught.value)


def test_weights_that_came_since_are_no_part_of_the_plan(tmp_path: Path) -> None:
    path = tmp_path / "late.safetensors"
    weights = resolved(path)
    path.write_bytes(b"1")
    with pytest.raises(WeightsError, match=r"late\.safetensors: these weights changed since the plan was made"):
        weights.open()


def test_built_in_weights_are_stamped_too() -> None:
    weights = WeightFile.resolve(("builtin:landscape",), "", "model")
    assert weights.open().is_dir()
    assert weights.fingerprint
    assert weights.family == "sd15"
    assert {header.path.parent.name for header in weights.headers} == {"unet", "vae", "text_encoder"}


def test_weights_in_the_hubs_cache_are_stamped_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    snapshot = tmp_path / "models--owner--name" / "snapshots" / "c0"
    snapshot.mkdir(parents=True)
    save_file({"a": torch.zeros(3)}, snapshot / "x.safetensors")
    weights = WeightFile.resolve(("owner/name/x.safetensors",), "c0", "lora")
    assert weights.open() == snapshot / "x.safetensors"
    save_file({"a": torch.zeros(4)}, snapshot / "x.safetensors")
    with pytest.raises(WeightsError, match="these weights changed"):
        weights.open()


def test_another_header_of_the_same_size_and_time_is_noticed(path: Path) -> None:
    weights, status = resolved(path), path.stat()
    path.write_bytes(path.read_bytes().replace(b'"a"', b'"b"'))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    with pytest.raises(WeightsError, match="these weights changed"):
        weights.refuse_changed()


def test_the_header_is_that_of_the_file(path: Path) -> None:
    weights = resolved(path)
    assert weights.header == read_header(path)
    assert weights.family == ""
    assert resolved(path.with_name("none.safetensors")).headers == ()
    with pytest.raises(WeightsError, match="no such file"):
        WeightFile.resolve((str(path.with_name("none.safetensors")),), "", "lora").header  # noqa: B018


def test_a_part_that_was_missing_is_named(path: Path) -> None:
    weights = WeightFile.resolve((str(path.parent),), "", "ip_encoder")
    with pytest.raises(WeightsError, match=r"a\.safetensors has no name that linfusion reads"):
        headers_in(weights.headers, path.parent)


def test_a_pickle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(b"x")
    with pytest.raises(WeightsError, match="pickle"):
        resolved(tmp_path / "a.ckpt")


def test_the_family_of_a_model_needs_its_unet(tmp_path: Path) -> None:
    builtin = builtin_folder("builtin:landscape")
    assert family_of_model("builtin:landscape") == family_of_model(builtin or Path()) == "sd15"
    (tmp_path / "unet").mkdir()
    (tmp_path / "unet" / "config.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"unet: no \.safetensors file in it"):
        family_of_model(tmp_path)
    with pytest.raises(WeightsError, match=r"linfusion fetch model=.nobody/nothing"):
        family_of_model("nobody/nothing")


def test_headers_by_folder(tmp_path: Path) -> None:
    for part, name in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (tmp_path / part).mkdir()
        tensors = {"conv_in.weight": torch.zeros(1, 4, 1, 1), "x.proj_in.weight": torch.zeros(2, 1)}
        save_file(tensors if part == "unet" else {"a": torch.zeros(3)}, tmp_path / part / f"{name}.safetensors")
    model = WeightFile.resolve((str(tmp_path),), "", "model")
    assert [header.parameters for header in model.headers_of(tmp_path / "text_encoder")] == [3]
    assert set(model.unet_tensors) == {"conv_in.weight", "x.proj_in.weight"}
    assert model.headers_of(tmp_path) == ()
    assert known_family(model) == "sd21"
