"""What a LoRA file's header tells: every tensor has a meaning, or is named."""

from pathlib import Path

import pytest

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.lora_names import ENDINGS, check_lora, plain_lora, split_name
from linfusion_cli.weights.safetensors_header import Header, TensorInfo


def header(**shapes: tuple[int, ...]) -> Header:
    return Header(Path("a.safetensors"), {name: TensorInfo("F32", shape, 0, 0) for name, shape in shapes.items()}, {})


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_ending_is_found(ending: str) -> None:
    stem, name = split_name(f"lora_unet_layer{ending}", Path("a"))
    assert stem in ("lora_unet_layer", "lora_unet_layer_lora")
    assert name == ENDINGS[ending]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lora_unet_x.oft_blocks", "OFT layers"),
        ("unet.x.boft_R", "BOFT layers"),
        ("lora_unet_x.a1.weight", "GLoRA layers"),
        ("lora_unet_x.b1.weight", "GLoRA layers"),
        ("text_encoders.t5xxl.transformer.x.lora_A.weight", "reads text with T5"),
        (f"lora_unet_{'x' * 70}.bypass", "x.bypass is of no kind"),
        ("lora_unet_double_blocks_0_img.lora_down.weight", "Flux"),
        ("transformer.x.lora_A.weight", "transformer model"),
        ("lora_unet_x.what", "of no kind that linfusion knows"),
    ],
)
@pytest.mark.covers("LoRAs for Stable Diffusion 3, Flux and Cascade; OFT, BOFT, GLoRA, VeRA", "refused")
def test_what_is_refused_by_name(name: str, said: str) -> None:
    with pytest.raises(WeightsError, match=said):
        check_lora(header(**{"lora_unet_y.lora_down.weight": (2, 4), name: (2, 2)}), 0)


@pytest.mark.parametrize(
    "name",
    [
        "lora_unet_down_blocks_0_attn2_to_k.lora_down.weight",
        "unet.down_blocks.0.attn2.to_k.lora_A.weight",
        "unet.down_blocks.0.attn2.processor.to_k_lora.down.weight",
    ],
)
def test_text_of_another_width(name: str) -> None:
    check_lora(header(**{name: (2, 768)}), 768)
    check_lora(header(**{name: (2, 768)}), 0)
    with pytest.raises(WeightsError, match=r"of Stable Diffusion 1\.x.*768, the model's is 2048"):
        check_lora(header(**{name: (2, 768)}), 2048)


@pytest.mark.parametrize(
    ("names", "plain"),
    [
        (("lora_down.weight", "lora_up.weight", "alpha"), True),
        (("lora_A.weight", "lora_B.weight"), True),
        (("lora_down.weight", "lora_up.weight", "dora_scale"), False),
        (("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), False),
    ],
)
def test_a_plain_lora_is_told_from_the_others(names: tuple[str, ...], plain: bool) -> None:
    assert plain_lora(header(**{f"lora_unet_x.{name}": (2, 2) for name in names})) == plain
