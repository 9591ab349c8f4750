"""The names that LoRA files give to a model's layers."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from families import loaded_pipeline, make_family

from linfusion_cli.weights.lora_layer_names import original_name


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sd15", "sdxl"])
def test_names_of_the_original_layout_are_the_converters(name: str, tmp_path: Path) -> None:
    """Every layer's original name, against diffusers' own conversion of a LoRA in that layout."""
    pipeline = loaded_pipeline(make_family(name, tmp_path / "model"))
    kind = StableDiffusionXLPipeline if name == "sdxl" else StableDiffusionPipeline
    layers = pipeline.unet.config.layers_per_block
    modules = [
        each
        for each, module in pipeline.unet.named_modules()
        if each.endswith(("to_q", "to_out.0", "ff.net.2", "proj_in"))
    ]
    for module in modules:
        stem = f"lora_unet_{original_name(module, layers, ()).replace('.', '_')}"
        tensors = {f"{stem}.lora_down.weight": torch.ones(2, 2), f"{stem}.lora_up.weight": torch.ones(2, 2)}
        converted, _ = kind.lora_state_dict(dict(tensors), unet_config=pipeline.unet.config)
        found = next(iter(converted)).removeprefix("unet.").replace(".processor", "")
        assert (
            found.replace("to_out_lora", "to_out.0").replace("_lora", "").split(".lora")[0].split(".down")[0] == module
        )
