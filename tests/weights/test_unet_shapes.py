"""The tensors that a config asks for are those of the network that diffusers makes of it."""

from typing import Any

import pytest
from accelerate import init_empty_weights
from diffusers import ControlNetModel, ControlNetUnionModel, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.errors import WeightsError
from linfusion_cli.json_files import read_json
from linfusion_cli.models import family_folder
from linfusion_cli.weights.layer_shapes import Shapes
from linfusion_cli.weights.unet_shapes import controlnet_shapes, unet_shapes

pytestmark = pytest.mark.slow  # all of them together

SIZES = {"addition_embed_type": "text_time", "addition_time_embed_dim": 6, "projection_class_embeddings_input_dim": 44}


def made(kind: Any, config: dict[str, Any]) -> Shapes:
    with init_empty_weights():
        return {name: tuple(value.shape) for name, value in kind.from_config(config).state_dict().items()}


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_the_families(family: str) -> None:
    config = dict(read_json(family_folder(family) / "unet" / "config.json"))
    assert unet_shapes(config, "") == made(UNet2DConditionModel, config)


@st.composite
def configs(draw: st.DrawFn, levels: int) -> dict[str, Any]:
    """Of UNets of two or three levels, with blocks, depths and heads of every kind."""
    layers = draw(st.integers(1, 2))
    down = draw(
        st.lists(
            st.sampled_from(["DownBlock2D", "CrossAttnDownBlock2D", "ResnetDownsampleBlock2D"]),
            min_size=levels,
            max_size=levels,
        )
    )
    depth = st.one_of(st.integers(1, 2), st.lists(st.integers(1, 2), min_size=layers, max_size=layers))
    up_depth = st.one_of(st.integers(1, 2), st.lists(st.integers(1, 2), min_size=layers + 1, max_size=layers + 1))
    more: dict[str, Any] = draw(st.sampled_from([{}, {"time_cond_proj_dim": 6}, SIZES]))
    names = {"DownBlock2D": "UpBlock2D", "CrossAttnDownBlock2D": "CrossAttnUpBlock2D"}
    return more | {
        "block_out_channels": [12, 16, 20][:levels],
        "norm_num_groups": 4,
        "down_block_types": down,
        "up_block_types": [names.get(kind, "ResnetUpsampleBlock2D") for kind in reversed(down)],
        "layers_per_block": layers,
        "transformer_layers_per_block": draw(st.lists(depth, min_size=levels, max_size=levels)),
        "reverse_transformer_layers_per_block": draw(st.lists(up_depth, min_size=levels, max_size=levels)),
        "attention_head_dim": draw(st.lists(st.integers(1, 6), min_size=levels, max_size=levels)),
        "use_linear_projection": draw(st.booleans()),
        "mid_block_type": draw(st.sampled_from(["UNetMidBlock2DCrossAttn", "UNetMidBlock2D", None])),
        "cross_attention_dim": 7,
    }


@settings(max_examples=15, deadline=None)
@given(config=st.integers(2, 3).flatmap(configs))
def test_any_unet(config: dict[str, Any]) -> None:
    assert unet_shapes(config, "") == made(UNet2DConditionModel, config)


@pytest.mark.parametrize("more", [{}, SIZES, {"mid_block_type": "UNetMidBlock2D"}])
def test_a_controlnet(more: dict[str, Any]) -> None:
    config = more | {"cross_attention_dim": 8, "conditioning_embedding_out_channels": [2, 3, 5]}
    assert controlnet_shapes(config, "") == made(ControlNetModel, config)


def test_a_controlnet_union() -> None:
    config = SIZES | {"num_trans_channel": 320, "num_trans_layer": 2, "num_control_type": 8, "norm_num_groups": 8}
    assert controlnet_shapes(config, "", union=True) == made(ControlNetUnionModel, config)


@pytest.mark.parametrize(
    ("settings_", "what"),
    [
        ({"norm_num_groups": 7}, "320 channels can't be parted into 7 groups"),
        ({"attention_head_dim": 999}, "999 heads"),
        ({"attention_head_dim": [8, 8]}, "attention_head_dim has 2 values, block_out_channels 4"),
        ({"transformer_layers_per_block": [[1, 2], 1, 1, 1]}, "reverse_transformer_layers_per_block is missing"),
        (
            {"transformer_layers_per_block": [[1], 1, 1, 1], "reverse_transformer_layers_per_block": 1},
            "none for layer 1",
        ),
        ({"addition_embed_type": "text_time"}, "projection_class_embeddings_input_dim is missing"),
    ],
)
def test_settings_that_do_not_agree_are_named(settings_: dict[str, Any], what: str) -> None:
    with pytest.raises(WeightsError, match=rf"^m/config\.json: .*{what}"):
        unet_shapes(settings_, "m/config.json")
