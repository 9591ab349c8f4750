"""The loader of image encoders names a file that it can't use; tests/weights/test_image_encoder.py has the layouts."""

from pathlib import Path

import pytest
import torch
from families import loaded_pipeline, make_family
from tiny_adapters import save_ip_adapter

from linfusion_cli.engine.adapters.image_encoder import load_image_encoder
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.weight_file import WeightFile


def at(path: Path) -> WeightFile:
    return WeightFile.resolve((str(path),), "", "ip_encoder")


@pytest.mark.slow
def test_a_folder_in_another_number_format(tmp_path: Path) -> None:
    folder = save_ip_adapter(loaded_pipeline(make_family("sd15", tmp_path / "all")), tmp_path / "ip")
    encoder = load_image_encoder(at(folder / "image_encoder"), torch.bfloat16)
    assert {parameter.dtype for parameter in encoder.parameters()} == {torch.bfloat16}
    (folder / "image_encoder" / "model.safetensors").unlink()
    with pytest.raises(WeightsError, match="image_encoder"):
        load_image_encoder(at(folder / "image_encoder"), torch.float32)
