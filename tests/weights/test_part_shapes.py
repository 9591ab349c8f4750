"""The tensors that a config asks for are those of the network that diffusers or transformers makes of it."""

from typing import Any

import pytest
from accelerate import init_empty_weights
from diffusers import AutoencoderKL, T2IAdapter
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
)

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.part_shapes import (
    image_encoder_shapes,
    t2i_adapter_shapes,
    text_encoder_shapes,
    vae_shapes,
)

SMALL = {"hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 4}


def shapes(model: nn.Module) -> Shapes:
    names = (name.removeprefix("text_model.").removeprefix("vision_model.") for name in model.state_dict())
    return dict(zip(names, (tuple(value.shape) for value in model.state_dict().values()), strict=True))


@pytest.mark.parametrize(
    "more",
    [
        {"layers_per_block": 2},
        {"mid_block_add_attention": False, "use_quant_conv": False, "use_post_quant_conv": False},
    ],
)
def test_an_autoencoder(more: dict[str, Any]) -> None:
    config = more | {"block_out_channels": [8, 16, 24, 24], "norm_num_groups": 4}
    kinds = {"down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4}
    with init_empty_weights():
        model: Any = AutoencoderKL(**config, **kinds)
    assert vae_shapes(config, "") == shapes(model)
    with pytest.raises(WeightsError, match="m: 8 channels can't be parted into 5 groups"):
        vae_shapes(config | {"norm_num_groups": 5}, "m")


@pytest.mark.parametrize("kind", [CLIPTextModel, CLIPTextModelWithProjection])
def test_a_text_encoder(kind: Any) -> None:
    for config in ({}, SMALL | {"vocab_size": 99, "max_position_embeddings": 11, "projection_dim": 6}):
        with init_empty_weights():
            model = kind(CLIPTextConfig(**config))
        assert text_encoder_shapes(config | {"architectures": [kind.__name__]}, "") == shapes(model)


def test_an_image_encoder() -> None:
    for config in ({}, SMALL | {"image_size": 30, "patch_size": 7, "projection_dim": 6}):
        with init_empty_weights():
            model: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**config))
        assert image_encoder_shapes(config, "") == shapes(model)


@pytest.mark.parametrize("kind", ["full_adapter", "full_adapter_xl", "light_adapter"])
def test_a_t2i_adapter(kind: str) -> None:
    widths = {"channels": [16, 16, 24, 32], "num_res_blocks": 1, "downscale_factor": 16, "in_channels": 1}
    for more in ({}, widths):
        config: dict[str, Any] = {"adapter_type": kind, "channels": [320, 640, 1280]} | more
        with init_empty_weights():
            model: Any = T2IAdapter(**config)
        assert t2i_adapter_shapes(config, "") == shapes(model)
