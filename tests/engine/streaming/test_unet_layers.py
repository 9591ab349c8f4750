"""A ResNet and a transformer in sweeps are diffusers' own, whatever the band, with one transformer block or several."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.dilation import dilated
from linfusion_cli.engine.streaming.row_source import Held, Parked, measure
from linfusion_cli.engine.streaming.unet_layers import Layers, pairs
from linfusion_cli.geometry import Band

CPU = torch.device("cpu")
STORE, WEIGHTS = ActivationStore.unlimited(CPU), Weights(CPU, resident=True)
TEXT, TIME = torch.randn(1, 5, 8).double(), torch.randn(1, 16).double()


def layers(band_rows: int, dilation: int = 1) -> Layers:
    return Layers(band_rows, dilation, TIME, TEXT, STORE, WEIGHTS)


def held(image: Tensor) -> Held:
    field = Parked.of(image)
    return Held(field, measure(field, 3, STORE, lambda _: None).moments)


def whole(x: Held) -> Tensor:
    return x.field.rows(Band(0, x.field.height))


@pytest.mark.parametrize("band_rows", [1, 4, 20])
@pytest.mark.parametrize(("out_channels", "dilation"), [(8, 1), (12, 1), (8, 3)])
@torch.inference_mode()
def test_a_resnet(band_rows: int, out_channels: int, dilation: int) -> None:
    torch.manual_seed(0)
    resnet = ResnetBlock2D(in_channels=8, out_channels=out_channels, temb_channels=16, groups=4).double().eval()
    image = torch.randn(1, 8, 11, 6).double()
    with dilated(dilation):
        ours, expected = whole(layers(band_rows, dilation).resnet(held(image), resnet)), resnet(image, TIME)
    assert torch.allclose(ours, expected)


@pytest.mark.slow
@pytest.mark.parametrize("band_rows", [1, 4, 20])
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("linear_projection", [False, True])
@torch.inference_mode()
def test_a_transformer(band_rows: int, depth: int, linear_projection: bool) -> None:
    torch.manual_seed(0)
    transformer = Transformer2DModel(
        num_attention_heads=2,
        attention_head_dim=4,
        in_channels=8,
        num_layers=depth,
        norm_num_groups=4,
        cross_attention_dim=8,
        use_linear_projection=linear_projection,
    ).double()
    image = torch.randn(1, 8, 11, 6).double()
    expected = transformer.eval()(image, TEXT, return_dict=False)[0]
    assert torch.allclose(whole(layers(band_rows).transformer(held(image), transformer)), expected)


def test_blocks_without_transformers_pair_with_none() -> None:
    block = torch.nn.Module()
    block.add_module("resnets", torch.nn.ModuleList([torch.nn.Identity(), torch.nn.Identity()]))
    assert [transformer for _, transformer in pairs(block)] == [None, None]
