"""The loader of image encoders names a file that it can't use; tests/weights/test_image_encoder.py has the layouts."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from families import loaded_pipeline, make_family
from tiny_adapters import save_ip_adapter
from transformers import CLIPVisionModelWithProjection

from linfusion_cli.engine.adapters.image_encoder import load_image_encoder
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.image_encoder import check_image_encoder
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


# Settings of an encoder's config, and values of each; one with a weight of another shape is refused.
SETTINGS: dict[str, list[Any]] = {
    "hidden_act": ["gelu", "quick_gelu", "relu", "silu", "gelu_new", None],
    "layer_norm_eps": [1e-5, 1e-3, 0.5, 0, -1, "x"],
    "num_attention_heads": [1, 2, 4, 3, 0],
    "num_hidden_layers": [2, 1, 3],
    "projection_dim": [12, 16, None],
    "image_size": [32, 40, 8],
    "patch_size": [8, 16],
    "hidden_size": [16, 32],
    "intermediate_size": [32, 16],
    "num_channels": [3, 1],
    "attention_dropout": [0.0, 0.5],
    "initializer_factor": [1.0, 3.0],
    "initializer_range": [0.02, 9.0],
    "model_type": ["clip_vision_model", "siglip_vision_model"],
    "dropout": [0.0, 0.7],
    "attn_implementation": ["eager", "sdpa"],
    "torch_dtype": ["float16"],
    "strange": [1],
}


def refusal(folder: Path) -> str:
    """What the check says, "" if nothing."""
    try:
        check_image_encoder(folder, at(folder).headers)
    except WeightsError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.covers(
    "settings of an image encoder's config, each with other values",
    "used, or refused with its name",
    families=("sd15",),
)
def test_a_setting_acts_as_in_transformers_or_is_refused(tmp_path: Path) -> None:
    folder = save_ip_adapter(loaded_pipeline(make_family("sd15", tmp_path / "all")), tmp_path / "ip") / "image_encoder"
    config = json.loads((folder / "config.json").read_text())
    pixels, used, refused = torch.randn(1, 3, 32, 32), set(), set()
    for key, values in SETTINGS.items():
        for value in values:
            (folder / "config.json").write_text(json.dumps(config | {key: value}))
            if message := refusal(folder):
                assert str(folder) in message
                refused.add(key)
                continue
            theirs = CLIPVisionModelWithProjection.from_pretrained(folder, dtype=torch.float32).eval()
            with torch.no_grad():
                ours = load_image_encoder(at(folder), torch.float32)(pixels).image_embeds
                assert torch.allclose(ours, theirs(pixels).image_embeds, atol=1e-6), (key, value)
            used.add(key)
    assert {"hidden_act", "layer_norm_eps", "num_attention_heads"} <= used & refused
    assert {"projection_dim", "image_size", "patch_size", "hidden_size", "num_hidden_layers", "strange"} <= refused
