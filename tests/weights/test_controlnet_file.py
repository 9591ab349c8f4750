"""A ControlNet's config, tensors and UNet are held against each other before anything is loaded."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import FAMILIES, tiny_unet
from original_layout import ldm_controlnet
from safetensors.torch import load_file, save_file
from tiny_adapters import save_controlnet

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.controlnet_file import controlnet_config
from linfusion_cli.weights.weight_file import WeightFile

pytestmark = pytest.mark.slow  # all of them together


class Pipeline:
    """What save_controlnet() asks of one."""

    def __init__(self, family: str) -> None:
        self.unet = tiny_unet(family)


@pytest.fixture(scope="module")
def sdxl() -> Pipeline:
    return Pipeline("sdxl")


def config_of(path: Path, unet: Any) -> dict[str, Any]:
    file = WeightFile.resolve((str(path),), "", "controlnet")
    return controlnet_config(path, file.tensors, unet)


def test_a_folder_and_a_file_tell_the_same_network(sdxl: Pipeline, tmp_path: Path) -> None:
    folder = save_controlnet(sdxl, tmp_path / "net")
    found = config_of(folder, sdxl.unet.config)
    file = tmp_path / "shuffle.safetensors"
    (folder / "diffusion_pytorch_model.safetensors").rename(file)
    alone = config_of(file, sdxl.unet.config)
    keys = ("block_out_channels", "conditioning_embedding_out_channels", "addition_time_embed_dim")
    assert [list(found[key]) if key in keys[:2] else found[key] for key in keys] == [
        list(alone[key]) if key in keys[:2] else alone[key] for key in keys
    ]
    assert alone["global_pool_conditions"], "its name says so"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("addition_time_embed_dim", 16),
        ("projection_class_embeddings_input_dim", 80),
        ("cross_attention_dim", 48),
        ("block_out_channels", [16, 32]),
        ("layers_per_block", 2),
        ("addition_embed_type", None),
        ("conditioning_embedding_out_channels", [4, 8, 8]),
        ("transformer_layers_per_block", [1, 1]),
    ],
)
def test_a_config_of_another_network_is_refused(sdxl: Pipeline, tmp_path: Path, key: str, value: Any) -> None:
    path = save_controlnet(sdxl, tmp_path / "net") / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(WeightsError, match=rf"{tmp_path / 'net'}.*({key}|its tensor)") as refused:
        config_of(tmp_path / "net", sdxl.unet.config)
    assert len(str(refused.value)) <= 400


def test_a_network_for_another_unet_is_refused(sdxl: Pipeline, tmp_path: Path) -> None:
    folder, other = save_controlnet(sdxl, tmp_path / "net"), tiny_unet("sd15")
    with pytest.raises(WeightsError, match="for Stable Diffusion XL, not for this model: its cross_attention"):
        config_of(folder, other.config)
    config_of(folder, None)
    with pytest.raises(WeightsError, match="its addition_time_embed_dim is 8, the UNet's 10"):
        config_of(folder, dict(sdxl.unet.config) | {"addition_time_embed_dim": 10})
    with pytest.raises(WeightsError, match="reads text of width 40, the UNet of 16"):
        config_of(folder / "diffusion_pytorch_model.safetensors", other.config)


def test_a_file_with_other_tensors_is_refused(sdxl: Pipeline, tmp_path: Path) -> None:
    folder = save_controlnet(sdxl, tmp_path / "net")
    tensors = load_file(folder / "diffusion_pytorch_model.safetensors")
    save_file(tensors | {"strange.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: its tensor strange\.weight has no place"):
        config_of(tmp_path / "a.safetensors", sdxl.unet.config)


@pytest.mark.parametrize("prefix", ["control_model.", ""])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_the_original_layout_is_held_against_the_unet(family: str, tmp_path: Path, prefix: str) -> None:
    made, path = Pipeline(family), tmp_path / "net.safetensors"
    folder = save_controlnet(made, tmp_path / "net", (16, 32, 96, 256))
    own = ldm_controlnet(load_file(folder / "diffusion_pytorch_model.safetensors"), made.unet)
    tensors = {f"{prefix}{name}": value for name, value in own.items()}

    def said(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, path)
        with pytest.raises(WeightsError) as refused:
            config_of(path, made.unet.config)
        assert len(str(refused.value)) <= 400
        return str(refused.value)

    save_file(tensors | {"betas": torch.ones(2)}, path)
    config_of(path, made.unet.config)
    seen = {name.removeprefix(prefix).split(".")[0]: name for name in tensors}
    assert len(seen) >= 6
    for part, name in seen.items():  # one of each part
        short = name.removeprefix(prefix)
        without = {key: value for key, value in tensors.items() if key != name}
        assert f"{path}: its tensor {short} is missing" in said(without), part
        assert f"its tensor {short} has shape (3, 5, 7)" in said(tensors | {name: torch.ones(3, 5, 7)})
        assert f"{short}.strange has no place" in said(tensors | {f"{name}.strange": torch.ones(2)})
