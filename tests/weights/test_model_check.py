"""A model, ControlNet or autoencoder is refused by file and setting before it is loaded, and used models pass."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Family, make_family
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.models import builtin_folder
from linfusion_cli.weights.model_check import check_controlnet, check_model, check_part, check_vae
from linfusion_cli.weights.weight_file import WeightFile


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("model") / "all")


@pytest.fixture
def model(small: Family, tmp_path: Path) -> Path:
    """A copy of the model's folder that a test may break."""
    return Path(shutil.copytree(small.folder, tmp_path / "model"))


def weights(path: Path, parameter: str = "model") -> WeightFile:
    return WeightFile.resolve((str(path),), "", parameter)


def checked(path: Path, configs: Path | None = None) -> None:
    check_model(weights(path), path, "sd15", configs)


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_models_in_both_layouts_and_the_built_in_one_pass(small: Family) -> None:
    checked(small.folder)
    checked(small.file, small.folder)
    with pytest.raises(WeightsError, match=r"model\.safetensors: in its unet, its tensor .* expected"):
        checked(small.file)  # of the family's own sizes
    landscape = builtin_folder("builtin:landscape")
    assert landscape
    checked(landscape)


@pytest.mark.parametrize(
    ("file", "setting", "value"),
    [
        ("unet/config.json", "class_embed_type", "timestep"),
        ("vae/config.json", "latent_channels", 16),
        ("scheduler/scheduler_config.json", "beta_schedule", "sigmoid"),
        ("text_encoder/config.json", "hidden_act", "relu"),
        ("text_encoder/config.json", "max_position_embeddings", "many"),
        ("tokenizer/tokenizer_config.json", "model_max_length", 1 << 31),
    ],
)
def test_each_part_is_checked_in_a_folder_and_in_configs(
    small: Family, model: Path, file: str, setting: str, value: object
) -> None:
    change(model / file, **{setting: value})
    for path, configs in ((model, None), (small.file, model)):
        with pytest.raises(WeightsError, match=f"{file}.*{setting}"):
            checked(path, configs)


def test_configs_that_are_not_there_are_told_with_the_key_that_names_them(small: Family, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"model\.configs: .*nothing: there is no such folder"):
        checked(small.file, tmp_path / "nothing")


def test_a_unet_alone_is_no_model(small: Family) -> None:
    path = next((small.folder / "unet").glob("*.safetensors"))
    with pytest.raises(WeightsError, match="unet"):
        checked(path)


def test_a_part_without_a_config_is_left_to_loading(tmp_path: Path) -> None:
    check_part(tmp_path, "unet", "unet")
    check_part(tmp_path / "missing", "scheduler")


def test_an_autoencoder_is_checked_alone_and_inside_a_model(small: Family, model: Path) -> None:
    check_vae(weights(small.file, "vae"), small.folder)
    check_vae(weights(model, "vae"), small.folder)
    check_vae(weights(model / "vae", "vae"), small.folder)
    change(model / "vae" / "config.json", act_fn="relu")
    for path in (model, model / "vae"):
        with pytest.raises(WeightsError, match=r"vae/config\.json.*act_fn"):
            check_vae(weights(path, "vae"), small.folder)


def test_a_controlnet_is_told_from_other_files(tmp_path: Path) -> None:
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match="looks like: lora, not controlnet"):
        check_controlnet(weights(tmp_path / "a.safetensors", "controlnet"), tmp_path / "a.safetensors", None, None)
    (tmp_path / "net").mkdir()
    (tmp_path / "net" / "config.json").write_text(json.dumps({"_class_name": "ControlNetModel", "in_channels": 9}))
    with pytest.raises(WeightsError, match=r"net/config\.json.*in_channels"):
        check_controlnet(weights(tmp_path / "net", "controlnet"), tmp_path / "net", None, None)
