"""Which layer each tensor of a LoRA file is for: every name that files give, by names alone."""

from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.lora_layer_names import aliases, kind_of_update, layers_of

LAYER, PATH = "down_blocks.1.attentions.0.transformer_blocks.0.attn1.to_out.0", Path("x.safetensors")
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
NAMES = {"unet": aliases("unet", [LAYER], 2), "text_encoder": aliases("text_encoder", [TEXT], 0)}


@pytest.mark.parametrize(
    "key",
    [
        f"unet.{LAYER}.lora_A.weight",
        f"{LAYER}.lora_A.weight",
        f"lora_unet_{LAYER.replace('.', '_')}.lora_down.weight",
        f"lora_unet.{LAYER}.lora_down.weight",
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_out_0.lora_down.weight",
        "diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_out.0.lora_down.weight",
        f"base_model.model.unet.{LAYER}.lora_A.weight",
        "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn1.processor.to_out_lora.down.weight",
    ],
)
def test_the_names_of_a_layer_of_the_unet(key: str) -> None:
    assert layers_of([key], NAMES, PATH) == {("unet", LAYER): {"down": key}}


@pytest.mark.parametrize(
    "key",
    [
        f"text_encoder.{TEXT}.lora_A.weight",
        f"lora_te_{TEXT.replace('.', '_')}.lora_down.weight",
        f"lora_te1.{TEXT}.lora_down.weight",
    ],
)
def test_the_names_of_a_layer_of_the_text_encoder(key: str) -> None:
    assert layers_of([key], NAMES, PATH) == {("text_encoder", TEXT): {"down": key}}


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (["lora_te2_x.lora_down.weight"], "the model has no text_encoder_2"),
        (["lora_unet_x.lora_down.weight"], "unet has no layer for tensor lora_unet_x.lora_down.weight"),
        ([f"{LAYER}.lora_A.weight", f"unet.{LAYER}.lora_A.weight"], "two tensors for unet"),
        ([f"{LAYER}.strange"], "no kind that linfusion knows"),
    ],
)
def test_what_has_no_layer_is_named(keys: list[str], said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        layers_of(keys, NAMES, PATH)


def test_half_a_layer_is_named() -> None:
    assert kind_of_update({"down", "up", "bias"}, "unet.x", PATH) == "lora"
    for one in ("down", "dora_scale"):
        with pytest.raises(WeightsError, match=rf"incomplete at unet\.x: has only {one}"):
            kind_of_update({one}, "unet.x", PATH)
