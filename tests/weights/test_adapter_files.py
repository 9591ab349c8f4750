"""The image encoder of an IP-Adapter is the one whose width the adapter reads, wherever the repository keeps it."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.adapter_files import check_ip_adapter, encoder_folder
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.weight_file import WeightFile, image_encoder_of

WIDTHS = {"models": 1024, "sdxl_models": 1280}  # ViT-H and ViT-G, as in h94/IP-Adapter


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    for folder, width in WIDTHS.items():
        (tmp_path / folder / "image_encoder").mkdir(parents=True)
        config = {"projection_dim": width, "hidden_size": width + 256, "num_attention_heads": 16}
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
@pytest.mark.covers("IP-Adapter, image encoder by its width", "used", families=("sd15", "sdxl"))
def test_the_encoder_is_chosen_by_width(repository: Path, name: str, tensor: str, width: int, wanted: str) -> None:
    path = repository / f"{name}.safetensors"
    save_file({f"image_proj.{tensor}": torch.ones(8, width), "ip_adapter.1.to_k_ip.weight": torch.ones(2, 2)}, path)
    assert encoder_folder(read_header(path), path) == repository / wanted / "image_encoder"
    assert encoder_folder(read_header(path), repository) == repository / wanted / "image_encoder"


def test_without_an_encoder_of_that_width_both_widths_are_said(repository: Path) -> None:
    path = repository / "models" / "odd.safetensors"
    save_file({"image_proj.proj.weight": torch.ones(8, 512)}, path)
    with pytest.raises(WeightsError, match=r"odd\.safetensors: it reads .* projection_dim 512, .* has 1024"):
        encoder_folder(read_header(path), path)


def test_a_named_encoder_is_taken_if_its_width_is_right(repository: Path) -> None:
    path = repository / "models" / "ip.safetensors"
    save_file({"image_proj.proj.weight": torch.ones(8, 1280)}, path)
    folder = repository / "sdxl_models" / "image_encoder"
    adapter = WeightFile.resolve((str(path),), "", "ip_adapter")
    for named in (str(folder), str(folder.parent), ""):
        found = image_encoder_of(adapter, named)
        assert found is not None
        assert found.path == folder
    with pytest.raises(WeightsError, match=r"projection_dim is 1024, ip\.safetensors reads an image encoder with 1280"):
        image_encoder_of(adapter, str(repository / "models" / "image_encoder"))
    assert image_encoder_of(adapter, "owner/name") == WeightFile(("owner/name",), "", "ip_encoder")
    absent = WeightFile.resolve(("owner/ip",), "", "ip_adapter")
    assert image_encoder_of(absent, "") is None
    assert image_encoder_of(absent, "owner/name") == WeightFile(("owner/name",), "", "ip_encoder")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("image_proj.perceiver_resampler.proj_in.weight", "FaceID"),
        ("ip_adapter.0.to_q_lora.down.weight", "FaceID"),
        ("image_proj.proj.0.weight", "FaceID"),
        ("other.weight", "not a part of an IP-Adapter"),
        ("ip_adapter.3.to_k_ip.weight", "reads text of width 2, the model's is 768"),
    ],
)
@pytest.mark.covers("IP-Adapter FaceID", "refused")
def test_adapters_that_are_refused_by_name(tmp_path: Path, name: str, said: str) -> None:
    path = tmp_path / "ip.safetensors"
    tensors = {"image_proj.proj.weight": torch.ones(8, 4), "image_proj.norm.weight": torch.ones(8)}
    save_file(tensors | {name: torch.ones(2, 2)}, path)
    with pytest.raises(WeightsError, match=said):
        check_ip_adapter(read_header(path), 768)
    if said == "FaceID":  # which has no image encoder that could be missing or of another width
        with pytest.raises(WeightsError, match=said):
            image_encoder_of(WeightFile.resolve((str(path),), "", "ip_adapter"), "")
