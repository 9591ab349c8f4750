"""The image encoder of an IP-Adapter is the one whose width the adapter reads, wherever the repository keeps it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.adapter_files import encoder_folder

WIDTHS = {"models": 1024, "sdxl_models": 1280}  # ViT-H and ViT-G, as in h94/IP-Adapter


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder, width in WIDTHS.items():
        (tmp_path / folder / "image_encoder").mkdir(parents=True)
        config = {"projection_dim": width, "hidden_size": width + 256}
        (tmp_path / folder / "image_encoder" / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "tensor", "width", "wanted"),
    [
        ("models/ip-adapter_sd15", "proj.weight", 1024, "models"),
        ("models/ip-adapter_sd15_vit-G", "proj.weight", 1280, "sdxl_models"),
        ("sdxl_models/ip-adapter_sdxl", "proj.weight", 1280, "sdxl_models"),
        ("sdxl_models/ip-adapter_sdxl_vit-h", "proj.weight", 1024, "models"),
        ("sdxl_models/ip-adapter-plus_sdxl_vit-h", "proj_in.weight", 1280, "models"),
    ],
)
def test_the_encoder_is_chosen_by_width(repository: Path, name: str, tensor: str, width: int, wanted: str) -> None:
    path = repository / f"{name}.safetensors"
    save_file({f"image_proj.{tensor}": torch.ones(8, width), "ip_adapter.1.to_k_ip.weight": torch.ones(2, 2)}, path)
    assert encoder_folder(path, path) == repository / wanted / "image_encoder"
    assert encoder_folder(path, repository) == repository / wanted / "image_encoder"


def test_without_an_encoder_of_that_width_both_widths_are_said(repository: Path) -> None:
    path = repository / "models" / "odd.safetensors"
    save_file({"image_proj.proj.weight": torch.ones(8, 512)}, path)
    with pytest.raises(WeightsError, match=r"odd\.safetensors: it reads .* projection_dim 512, .* has 1024"):
        encoder_folder(path, path)
