"""The names that LoRA files give to a model's layers, and the scale that their headers say."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from families import loaded_pipeline, make_family

from linfusion_cli.engine.adapters.lora_layers import LoraConfig
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.lora_layer_names import original_name


def config(values: dict[str, object]) -> LoraConfig:
    return LoraConfig.read({"lora_adapter_metadata": json.dumps(values)}, Path("a.safetensors"))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, (None, False)),
        ({"unet.lora_alpha": 8}, (8.0, False)),
        ({"lora_alpha": 8, "use_rslora": True}, (8.0, True)),
        ({"text_encoder.lora_alpha": 8}, (None, False)),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"attn1.to_q": 4}}, (4.0, False)),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"^attn1.to_q": 4, "n1.to_q": 3}}, (8.0, False)),
        ({"unet.lora_alpha": 8, "unet.alpha_pattern": {"^mid.attn1.to_q": 4}}, (4.0, False)),
    ],
)
def test_alpha_of_a_layer(values: dict[str, object], expected: tuple[float | None, bool]) -> None:
    assert config(values).alpha("unet", "mid.attn1.to_q") == expected


def test_a_pattern_that_is_no_name_is_refused() -> None:
    with pytest.raises(WeightsError, match="alpha_pattern"):
        config({"alpha_pattern": {"(a+)+b": 4}}).alpha("unet", "mid")


def test_peft_configuration_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"lora_alpha": 8}')
    found = LoraConfig.read({}, tmp_path / "adapter_model.safetensors")
    assert found.alpha("unet", "mid") == (8.0, False)
    assert LoraConfig.read({}, tmp_path / "other.safetensors").alpha("unet", "mid") == (None, False)


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
