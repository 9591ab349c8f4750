"""The plan's arithmetic of a UNet is what the engine does: the same slabs in the same order, to the byte."""

from pathlib import Path

import pytest
import torch
from budgets import same_budget, same_budget_and_buffers
from diffusers import ControlNetModel, UNet2DConditionModel
from late import Late

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.controlnet.banded import BandedControlNet
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.engine.streaming.residuals import combined
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.geometry import Size
from linfusion_cli.planning.memory_budget import CostCounter, StoreBudget
from linfusion_cli.planning.model_shapes import UNetShape, family_architecture
from linfusion_cli.planning.unet_cost import unet_cost
from linfusion_cli.planning.vae_cost import vae_cost

CPU = torch.device("cpu")
TEXT = torch.zeros(1, 5, 8)
SHAPE = UNetShape(
    channels=(8, 16, 24),
    depths=(0, 1, 3),
    layers=2,
    middle_depth=3,
    text_dim=8,
    heads=(2, 2, 2),
    f_divisor=1,
    parameters=0,
    linear_parameters=0,
    controlnet_parameters=0,
)
LATENT = Size(10, 13)


def small_unet(*, linear: bool) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(8, 16, 24),
        transformer_layers_per_block=(1, 1, 3),
        layers_per_block=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    if linear:
        LinFusion.like(unet).mount(unet)
    return unet


@pytest.mark.slow
@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("dilation", [1, 6])
@pytest.mark.parametrize("store_bytes", [0, 30_000, 10**9])
def test_the_unet_takes_the_room_that_was_planned(
    store_bytes: int, dilation: int, linear: bool, tmp_path: Path
) -> None:
    store_budget = StoreBudget(store_bytes, 0, tmp_path)
    store = ActivationStore(CPU, store_budget)
    with torch.inference_mode():
        BandedUNet(small_unet(linear=linear), 4, store, Weights(CPU, resident=True))(
            torch.zeros(1, 4, 13, 10), torch.tensor(3), TEXT, None, dilation
        )
    same_budget(store, unet_cost(SHAPE, LATENT, 4, dilation, store_budget, 4, linear=linear))


@pytest.mark.slow
@pytest.mark.parametrize("controlnets", [1, 2])
@pytest.mark.parametrize("store_bytes", [0, 60_000, 10**9])
def test_controlnets_take_the_room_that_was_planned(store_bytes: int, controlnets: int, tmp_path: Path) -> None:
    unet, store_budget, weights = (
        small_unet(linear=False),
        StoreBudget(store_bytes, 0, tmp_path),
        Weights(CPU, resident=True),
    )
    store = ActivationStore(CPU, store_budget)
    network = BandedControlNet(
        ControlNetModel.from_unet(unet, conditioning_embedding_out_channels=(16, 16)), 4, store, weights
    )
    sample, image = torch.zeros(1, 4, 13, 10), Parked.of(torch.zeros(1, 3, 26, 20))
    conditions = [network.condition(image) for _ in range(controlnets)]
    with torch.inference_mode():
        residuals = combined([network(sample, torch.tensor(3), TEXT, None, condition, 1.0) for condition in conditions])
        BandedUNet(unet, 4, store, weights)(sample, torch.tensor(3), TEXT, None, residuals=residuals)
    del conditions, residuals
    same_budget(store, unet_cost(SHAPE, LATENT, 4, 1, store_budget, 4, linear=False, controlnets=controlnets))


@pytest.mark.slow
@pytest.mark.parametrize("dilation", [1, 6])
@pytest.mark.parametrize("band_rows", [2, 4, 20])
@pytest.mark.parametrize("memory_bytes", [0, 10**9])
def test_the_buffers_of_copies_are_planned(memory_bytes: int, band_rows: int, dilation: int, tmp_path: Path) -> None:
    store_budget = StoreBudget(0, memory_bytes, tmp_path, overlapped=True)
    store, latent = ActivationStore(CPU, store_budget, streams=Late()), Size(10, 41)
    with torch.inference_mode():
        unet = BandedUNet(small_unet(linear=True), band_rows, store, Weights(CPU, resident=True))
        unet(torch.zeros(1, 4, latent.height, latent.width), torch.tensor(3), TEXT, None, dilation)
    same_budget_and_buffers(store, unet_cost(SHAPE, latent, band_rows, dilation, store_budget, 4, linear=True))


def test_nothing_is_buffered_on_the_device_itself() -> None:
    assert (
        unet_cost(SHAPE, LATENT, 4, 1, StoreBudget(10**9, 0, Path(), overlapped=True), 4, linear=True).buffer_bytes[
            "device"
        ]
        == 0
    )


def test_a_guided_pass_over_a_small_image_is_a_batch_of_two() -> None:
    def cost(latent: Size, band_rows: int, *, guided: bool) -> float:
        counter = unet_cost(SHAPE, latent, band_rows, 1, StoreBudget.unlimited(), 4, linear=True, guided=guided)
        return counter.band_values * 4 + counter.peak_bytes["device"]

    assert cost(LATENT, 0, guided=True) == 2 * cost(LATENT, 0, guided=False)
    assert cost(LATENT, 4, guided=True) == cost(LATENT, 4, guided=False)
    assert cost(Size(129, 128), 0, guided=True) == cost(Size(129, 128), 0, guided=False)


def test_linear_attention_costs_by_area_and_softmax_by_its_square() -> None:
    shape = family_architecture("sd15").unet
    small, large = Size(256, 256), Size(512, 512)
    linear = (
        unet_cost(shape, large, 0, 1, StoreBudget.unlimited(), 4, linear=True).macs
        / unet_cost(shape, small, 0, 1, StoreBudget.unlimited(), 4, linear=True).macs
    )
    softmax = (
        unet_cost(shape, large, 0, 1, StoreBudget.unlimited(), 4, linear=False).macs
        / unet_cost(shape, small, 0, 1, StoreBudget.unlimited(), 4, linear=False).macs
    )
    assert 3.95 < linear < 4.05
    assert softmax > 10


def test_the_arithmetic_knows_the_real_models() -> None:
    """Published sizes: one SD-v1.5 pass at 512x512 is about 0.34 T multiply-adds, SD-XL at 1024x1024 about 3."""

    def macs(family: str, side: int) -> float:
        unet = family_architecture(family).unet
        return unet_cost(unet, Size(side, side), 0, 1, StoreBudget.unlimited(), 4, linear=False).macs

    assert 0.30e12 < macs("sd15", 64) < 0.45e12
    assert 2.4e12 < macs("sdxl", 128) < 3.6e12
    assert (
        1.0e12
        < vae_cost(
            family_architecture("sd15").vae,
            Size(512, 512),
            64,
            ("all",) * 4,
            10**6,
            CostCounter(StoreBudget.unlimited(), 4),
            encode=False,
        ).macs
        < 2.6e12
    )
