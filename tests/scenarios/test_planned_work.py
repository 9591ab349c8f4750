"""The three families in full size, without memory: shipped shapes, every tensor of the official LinFusion files."""

from typing import Any

import pytest
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel

from linfusion_cli.engine.attention.linfusion import LinFusion, self_attentions
from linfusion_cli.engine.loading.clip_tokenizer import clip_tokenizer
from linfusion_cli.engine.loading.model_files import FolderSource
from linfusion_cli.models import family_folder
from linfusion_cli.planning.model_shapes import family_architecture

# dims and heads of the official files, in the order of their modules_list (SD-XL: 10 of 640, then 60 of 1280)
LEVELS = {
    "sd15": [(320, 8)] * 2 + [(640, 8)] * 2 + [(1280, 8)] * 2,
    "sd21": [(320, 5)] * 2 + [(640, 10)] * 2 + [(1280, 20)] * 2,
}
UP = {
    "sd15": [(1280, 8)] * 3 + [(640, 8)] * 3 + [(320, 8)] * 3,
    "sd21": [(1280, 20)] * 3 + [(640, 10)] * 3 + [(320, 5)] * 3,
}
MIDDLE = {"sd15": [(1280, 8)], "sd21": [(1280, 20)]}


def config(family: str, part: str) -> dict[str, Any]:
    return FolderSource(family_folder(family), ()).config(part)


def meta_unet(family: str) -> UNet2DConditionModel:
    with torch.device("meta"):
        return UNet2DConditionModel.from_config(config(family, "unet"))


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_every_official_tensor_has_its_name_and_shape(family: str) -> None:
    unet = meta_unet(family)
    with torch.device("meta"):
        linfusion = LinFusion.like(unet, 16 if family == "sdxl" else 1)
    found = [(spec.dim, spec.heads) for spec in linfusion.specs]
    if family == "sdxl":
        assert sorted(found) == [(640, 10)] * 10 + [(1280, 20)] * 60
        assert {(spec.dim, spec.mid_dim) for spec in linfusion.specs} == {(640, 40), (1280, 80)}
    else:
        assert found == LEVELS[family] + UP[family] + MIDDLE[family]
        assert linfusion.specs[0].module_name == "down_blocks.0.attentions.0.transformer_blocks.0.attn1"
    wanted: dict[str, tuple[int, ...]] = {}
    for index, spec in enumerate(linfusion.specs):
        dim, mid = spec.dim, spec.mid_dim or spec.dim
        wanted |= {f"{index}.{name}.weight": (dim, dim) for name in ("to_q", "to_k", "to_v", "to_out.0")}
        wanted[f"{index}.to_out.0.bias"] = (dim,)
        for name in ("to_q_", "to_k_"):
            wanted |= {
                f"{index}.{name}.0.weight": (mid, dim),
                f"{index}.{name}.0.bias": (mid,),
                f"{index}.{name}.1.weight": (mid,),
            }
            wanted |= {
                f"{index}.{name}.1.bias": (mid,),
                f"{index}.{name}.3.weight": (dim, mid),
                f"{index}.{name}.3.bias": (dim,),
            }
    tensors = {name: tuple(value.shape) for name, value in linfusion.attentions.state_dict().items()}
    assert tensors == wanted
    assert len(tensors) == {"sd15": 272, "sd21": 272, "sdxl": 1190}[family]
    linfusion.check(unet)
    assert set(self_attentions(unet)) == {spec.module_name for spec in linfusion.specs}


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_shapes_that_ship_inside_are_the_full_models(family: str) -> None:
    def parameters(model: Any) -> int:
        return sum(parameter.numel() for parameter in model.parameters())

    assert parameters(meta_unet(family)) == family_architecture(family).unet.parameters
    with torch.device("meta"):
        assert (
            parameters(AutoencoderKL.from_config(config(family, "vae"))) == family_architecture(family).vae.parameters
        )
        texts = 0
        for part in ("text_encoder", "text_encoder_2")[: 2 if family == "sdxl" else 1]:
            settings = config(family, part)
            texts += parameters(
                getattr(transformers, settings["architectures"][0])(transformers.CLIPTextConfig.from_dict(settings))
            )
    assert texts == pytest.approx(family_architecture(family).text_parameters, rel=1e-3)


def test_the_tokenizer_that_ships_inside_is_clips() -> None:
    tokenizer = clip_tokenizer(family_folder("sd15") / "tokenizer")
    assert len(tokenizer) == 49408
    # numbers of OpenAI's vocabulary
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert tokenizer("Hello, World!").input_ids == [49406, 3306, 267, 1002, 256, 49407]
    assert tokenizer("", padding="max_length").input_ids == [49406] + [49407] * 76
    second = clip_tokenizer(family_folder("sdxl") / "tokenizer_2")
    assert second("", padding="max_length", max_length=5).input_ids == [49406, 49407, 0, 0, 0]
