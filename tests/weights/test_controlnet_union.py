"""ControlNet-union files: what their shapes tell, and which modes they have."""

import pytest

from linfusion_cli.config.choices import CONTROL_MODES
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.controlnet_union import (
    MODE_NUMBERS,
    check_mode,
    embedding_settings,
    is_union,
    union_settings,
)
from linfusion_cli.weights.safetensors_header import TensorInfo


def tensors(modes: int) -> dict[str, TensorInfo]:
    shapes = {
        "task_embedding": (modes, 320),
        "spatial_ch_projs.weight": (320, 320),
        "transformer_layes.0.ln_1.weight": (320,),
        "controlnet_cond_embedding.conv_in.weight": (16, 3, 3, 3),
        "controlnet_cond_embedding.blocks.0.weight": (16, 16, 3, 3),
        "controlnet_cond_embedding.blocks.1.weight": (32, 16, 3, 3),
        "controlnet_cond_embedding.blocks.2.weight": (32, 32, 3, 3),
        "controlnet_cond_embedding.blocks.3.weight": (96, 32, 3, 3),
    }
    return {name: TensorInfo("F16", shape, 0, 0) for name, shape in shapes.items()}


def test_shapes_tell_the_config() -> None:
    assert union_settings(tensors(8)) == {
        "num_control_type": 8,
        "num_trans_channel": 320,
        "num_trans_layer": 1,
        "num_proj_channel": 320,
    }
    assert embedding_settings(tensors(8)) == {"conditioning_embedding_out_channels": [16, 32, 96]}
    assert is_union(tensors(6))
    assert embedding_settings({}) == {}


@pytest.mark.parametrize(("text", "number"), [("openpose", 0), ("mlsd", 3), ("ted", 2), ("repaint", 7), ("5", 5)])
def test_modes_have_names_and_numbers(text: str, number: int) -> None:
    assert MODE_NUMBERS[text] == number
    assert text in CONTROL_MODES


def test_modes_that_a_network_lacks_are_refused() -> None:
    check_mode(tensors(6), 5, "x")
    check_mode(tensors(8), 7, "x")
    check_mode({}, None, "x")
    for header, mode in ((tensors(6), 6), (tensors(8), None), ({}, 3)):
        with pytest.raises(WeightsError):
            check_mode(header, mode, "x")
