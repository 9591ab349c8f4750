"""The tensors of a UNet in one file tell where it has transformer blocks, as SSD-1B, Segmind-Vega and KOALA differ."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import init_empty_weights
from diffusers import UNet2DConditionModel
from original_layout import ldm_unet_pairs
from safetensors.torch import save_file

from linfusion_cli.json_files import read_json
from linfusion_cli.models import family_folder
from linfusion_cli.weights.safetensors_header import TensorInfo, read_header
from linfusion_cli.weights.unet_settings import guidance_embedding_dim, with_settings_of
from linfusion_cli.weights.unet_shapes import unet_shapes

pytestmark = pytest.mark.slow  # all of them together

SSD_1B: dict[str, Any] = {
    "mid_block_type": "UNetMidBlock2D",
    "transformer_layers_per_block": [1, 2, 4],
    "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
}
VEGA = SSD_1B | {
    "transformer_layers_per_block": [1, 1, 2],
    "reverse_transformer_layers_per_block": [2, [1, 1, 1], 1],
}
KOALA_1B: dict[str, Any] = {"transformer_layers_per_block": [1, 2, 6], "layers_per_block": 1}
KOALA_700M = KOALA_1B | {"transformer_layers_per_block": [1, 2, 5], "mid_block_type": None}
LEVELS: dict[str, dict[str, Any]] = {"SSD-1B": SSD_1B, "Vega": VEGA, "KOALA-1B": KOALA_1B, "KOALA-700M": KOALA_700M}


def saved(path: Path, **shapes: tuple[int, ...]) -> Path:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path)
    return path


def original(config: dict[str, Any]) -> dict[str, TensorInfo]:
    """The tensors of diffusers' network, in the original layout with its prefix."""
    with init_empty_weights():
        unet: Any = UNet2DConditionModel.from_config(config)
    found: dict[str, TensorInfo] = {}
    for name, value in unet.state_dict().items():
        old, new = next(pair for pair in ldm_unet_pairs(unet) if name.startswith(pair[0]))
        shape = tuple(value.shape)
        found[f"model.diffusion_model.{new}{name.removeprefix(old)}"] = TensorInfo("F32", shape, 0, 0)
    return found


def of_family(name: str) -> dict[str, Any]:
    return dict(read_json(family_folder(name) / "unet" / "config.json"))


@pytest.mark.parametrize("name", LEVELS)
def test_the_depths_of_small_models_are_read(name: str) -> None:
    base, small = of_family("sdxl"), of_family("sdxl") | LEVELS[name]
    found = with_settings_of(original(small), base)
    assert unet_shapes(found, "") == unet_shapes(small, "")


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_a_familys_own_unet_keeps_its_config(family: str) -> None:
    base = of_family(family)
    found = with_settings_of(original(base), base)
    assert {key: found[key] for key in base if key != "transformer_layers_per_block"} == {
        key: value for key, value in base.items() if key != "transformer_layers_per_block"
    }
    assert "reverse_transformer_layers_per_block" not in found
    assert unet_shapes(found, "") == unet_shapes(base, "")


@pytest.mark.parametrize("prefix", ["time_embedding", "time_embed", "model.diffusion_model.time_embed"])
@pytest.mark.parametrize(("shape", "dim"), [((8, 256), 256), ((8,), 0)])
def test_the_numbers_that_tell_the_guidance_scale(
    tmp_path: Path, prefix: str, shape: tuple[int, ...], dim: int
) -> None:
    path = saved(tmp_path / "a.safetensors", **{f"{prefix}.cond_proj.weight": shape})
    assert guidance_embedding_dim(read_header(path).tensors) == dim


def test_no_guidance_embedding(tmp_path: Path) -> None:
    assert guidance_embedding_dim(read_header(saved(tmp_path / "a.safetensors", x=(1, 2))).tensors) == 0
