"""The scale of a LoRA's layers that its header says."""

import json
from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.lora_config import LoraConfig


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
