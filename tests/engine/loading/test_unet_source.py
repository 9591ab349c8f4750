"""A UNet of one file takes the config of its model, and its own guidance embedding."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.engine.loading.model_files import FolderSource
from linfusion_cli.engine.loading.unet_source import prediction_of, unet_source
from linfusion_cli.weights.weight_file import WeightFile


def at(path: Path) -> WeightFile:
    return WeightFile.resolve((str(path),), "", "unet")


@dataclass(frozen=True)
class Base:
    """A model whose UNet is told its guidance scale."""

    path: Path

    def config(self, part: str) -> dict[str, Any]:
        return {"part": part, "time_cond_proj_dim": 6}

    def tensors(self, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
        raise AssertionError((part, dtype))

    def tokenizer(self, part: str) -> str:
        return part


def test_a_file_in_the_names_of_diffusers(tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    save_file({"conv_in.weight": torch.ones(2)}, path, {"modelspec.prediction_type": "v"})
    source = unet_source(at(path), Base(tmp_path))
    assert source.config("unet") == {"part": "unet", "time_cond_proj_dim": None}
    assert source.config("vae") == {"part": "vae", "time_cond_proj_dim": 6}
    assert source.tokenizer("tokenizer") == "tokenizer"
    assert source.tensors("unet", torch.float16)["conv_in.weight"].dtype == torch.float16
    assert prediction_of(source) == "v_prediction"


def test_the_file_s_own_guidance_embedding(tmp_path: Path) -> None:
    path = tmp_path / "unet.safetensors"
    save_file({"time_embedding.cond_proj.weight": torch.ones(2, 4)}, path)
    assert unet_source(at(path), Base(tmp_path)).config("unet")["time_cond_proj_dim"] == 4


@pytest.mark.parametrize("inside", ["", "unet"])
def test_a_folder(tmp_path: Path, inside: str) -> None:
    (tmp_path / inside).mkdir(exist_ok=True)
    source = unet_source(at(tmp_path), Base(tmp_path))
    assert isinstance(source, FolderSource)
    assert source.lone == (not inside)
    assert prediction_of(source) == ""
