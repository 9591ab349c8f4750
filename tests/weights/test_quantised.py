"""Files whose weights are right only with scales beside them are refused by name, whatever option names them."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.weight_file import WeightFile

LAYER = "model.diffusion_model.input_blocks.1.1.proj_in"


@pytest.mark.parametrize("parameter", ["model", "unet", "vae", "lora", "controlnet"])
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scaled_fp8", "scaled fp8"),
        ("model.diffusion_model.scaled_fp8", "scaled fp8"),
        (f"{LAYER}.scale_weight", "scaled fp8"),
        (f"{LAYER}.weight_scale", "scaled fp8"),
        (f"{LAYER}.comfy_quant", "quantised format of ComfyUI"),
        (f"{LAYER}.weight.absmax", "bitsandbytes"),
        (f"{LAYER}.weight.quant_state.bitsandbytes__nf4", "bitsandbytes"),
        (f"{LAYER}.SCB", "bitsandbytes"),
    ],
)
@pytest.mark.covers("weights in fewer bits with scales beside them (scaled fp8, bitsandbytes)", "refused")
def test_scales_are_refused_by_name(tmp_path: Path, parameter: str, name: str, said: str) -> None:
    path = tmp_path / "x.safetensors"
    save_file({f"{LAYER}.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn), name: torch.ones(1)}, path)
    with pytest.raises(WeightsError) as caught:
        WeightFile.resolve((str(path),), "", parameter)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)
    assert "Take the file of the same model in float16" in str(caught.value)


def test_plain_float8_is_read(tmp_path: Path) -> None:
    save_file({f"{LAYER}.weight": torch.zeros(4, 4).to(torch.float8_e4m3fn)}, tmp_path / "x.safetensors")
    assert WeightFile.resolve((str(tmp_path / "x.safetensors"),), "", "lora").header.tensors
