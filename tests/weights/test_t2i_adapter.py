"""T2I-Adapter files are known by their tensors or their config, and refused by name where they can't be run."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import read_json
from linfusion_cli.models import family_folder
from linfusion_cli.weights.model_check import check_controlnet
from linfusion_cli.weights.model_family import kind_of
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.t2i_adapter import check_t2i_adapter, is_t2i_adapter
from linfusion_cli.weights.weight_file import WeightFile


def at(path: Path) -> WeightFile:
    return WeightFile.resolve((str(path),), "", "controlnet")


NAME = "adapter.body.0.resnets.0.block1.weight"


def test_by_tensors_and_by_config(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({NAME: torch.ones(2, 2, 3, 3)}, path)
    assert is_t2i_adapter(path, at(path).headers)
    assert kind_of(read_header(path).tensors) == "t2i-adapter"
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "T2IAdapter", "adapter_type": "other"}))
    assert is_t2i_adapter(tmp_path, at(tmp_path).headers)
    with pytest.raises(WeightsError, match="adapter_type"):
        check_controlnet(at(tmp_path), tmp_path, None, None)
    with pytest.raises(WeightsError, match="no T2I-Adapter of a known layout"):
        check_controlnet(at(path), path, None, None)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora_controlnet", "a control-LoRA"),
        ("difference", "the difference of a ControlNet from a UNet, which linfusion can't run"),
        ("task_embedding", "a ControlNet-union, which has to be told"),
        ("lllite_unet_x.down.0.weight", "a ControlNet-LLLite"),
        ("lora_unet_x.lora_up.weight", "looks like: lora"),
    ],
)
@pytest.mark.covers("ControlNet-LLLite, control-LoRA", "refused")
def test_controls_that_are_refused_by_name_in_the_plan(tmp_path: Path, name: str, said: str) -> None:
    save_file({name: torch.ones(2, 2), "controlnet_mid_block.weight": torch.ones(2)}, tmp_path / "a.safetensors")
    if name.startswith("lora_unet"):
        save_file({name: torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=said):
        check_controlnet(at(tmp_path / "a.safetensors"), tmp_path / "a.safetensors", None, None)


@pytest.mark.parametrize(("kind", "factor", "family"), [("full_adapter", 8, "sd15"), ("full_adapter_xl", 16, "sdxl")])
def test_the_sizes_that_a_unet_reads(tmp_path: Path, kind: str, factor: int, family: str) -> None:
    """An adapter for 1.x has the channels of SD-XL's levels, at other sizes."""
    unets = {name: read_json(family_folder(name) / "unet" / "config.json") for name in ("sd15", "sdxl")}
    (tmp_path / "config.json").write_text(
        json.dumps({"_class_name": "T2IAdapter", "adapter_type": kind, "downscale_factor": factor})
    )
    check_t2i_adapter(tmp_path, (), unets[family])
    with pytest.raises(WeightsError, match="for another model: its features are 1/"):
        check_t2i_adapter(tmp_path, (), unets["sdxl" if family == "sd15" else "sd15"])
