"""Textual-inversion files: every tensor has a text encoder, or the file is refused with its name."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.embedding_file import vectors_of
from linfusion_cli.weights.safetensors_header import read_header


def layout(folder: Path, tensors: dict[str, Tensor], family: str) -> dict[str, str]:
    save_file(tensors, folder / "moody.safetensors")
    return vectors_of(read_header(folder / "moody.safetensors"), two_encoders=family == "sdxl")


@pytest.mark.covers("textual inversion of A1111 and diffusers", "used", families=("sd15", "sd21"))
@pytest.mark.covers("textual inversion with `clip_l` and `clip_g`", "used", families=("sdxl",))
def test_layouts_that_people_have(tmp_path: Path) -> None:
    assert layout(tmp_path, {"emb_params": torch.ones(2, 768)}, "sd15") == {"text_encoder": "emb_params"}  # A1111
    assert layout(tmp_path, {"<moody>": torch.ones(768)}, "sd15") == {"text_encoder": "<moody>"}  # diffusers
    both = {"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}
    assert layout(tmp_path, both, "sdxl") == {"text_encoder": "clip_l", "text_encoder_2": "clip_g"}


@pytest.mark.parametrize(
    ("tensors", "family", "named"),
    [
        ({"emb_params": torch.ones(2, 768)}, "sdxl", "emb_params"),
        ({"clip_l": torch.ones(2, 768)}, "sdxl", "reads clip_g too"),
        ({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(2, 1280)}, "sd15", "for Stable Diffusion XL"),
        ({"clip_l": torch.ones(1, 2), "clip_g": torch.ones(1, 2), "t5": torch.ones(1, 2)}, "sdxl", "t5"),
        ({"emb_params": torch.ones(2, 768), "other": torch.ones(2, 768)}, "sd15", "other"),
        ({"emb_params": torch.ones(2, 768, dtype=torch.int32)}, "sd15", "I32"),
        ({"emb_params": torch.ones(2, 3, 768)}, "sd21", "not a list of vectors"),
        ({"emb_params": torch.ones(0, 768)}, "sd21", "not a list of vectors"),
        ({"x" * 3000: torch.ones(400, 8)}, "sd21", "not a list of vectors"),
        ({f"layer.{number}": torch.ones(2, 8) for number in range(99)}, "sd15", "96 more"),
    ],
)
@pytest.mark.covers("textual inversion of A1111 and diffusers", "refused", families=("sdxl",))
@pytest.mark.covers("textual inversion with `clip_l` and `clip_g`", "refused", families=("sd15", "sd21"))
def test_other_layouts_are_refused_by_name(tmp_path: Path, tensors: dict[str, Tensor], family: str, named: str) -> None:
    with pytest.raises(WeightsError) as caught:
        layout(tmp_path, tensors, family)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'moody.safetensors'}: ")
    assert named in message
    assert len(message) - len(str(tmp_path)) <= 300
