"""The UNet in bands equals the untouched diffusers UNet, for all families, sizes, bands and dilations."""

import pytest
import torch
from diffusers import UNet2DConditionModel
from golden import golden_unet, load_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import DATA, mounted
from torch import Tensor

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming.banded_unet import BandedUNet, PlainUNet

pytestmark = pytest.mark.slow  # all of them together

STORE, WEIGHTS = ActivationStore.unlimited(torch.device("cpu")), Weights(torch.device("cpu"), resident=True)
FAMILIES = ["sd15", "sd21", "sdxl"]


def both(family: str, height: int, width: int, band_rows: int, dilation: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    unet, tensors = mounted(family)
    torch.manual_seed(height * width)
    sample = torch.randn(batch, 4, height, width, dtype=torch.float64)
    text = tensors["encoder_hidden_states"][:batch].double()
    added = {name: tensors[name][:batch].double() for name in ("text_embeds", "time_ids") if name in tensors}
    with torch.inference_mode():
        plain = PlainUNet(unet)(sample, torch.tensor(321), text, added, dilation)
        return BandedUNet(unet, band_rows, STORE, WEIGHTS)(sample, torch.tensor(321), text, added, dilation), plain


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("band_rows", [1, 2, 3, 7, 12, 100])
def test_equals_the_untouched_unet_in_float64(family: str, band_rows: int) -> None:
    banded, plain = both(family, 13, 9, band_rows, 1, batch=2)
    assert (banded - plain).norm() / plain.norm() < 1e-10


def test_transformers_of_different_depths_and_a_middle_without_one() -> None:
    """As SSD-1B and Segmind-Vega have them."""
    torch.manual_seed(1)
    unet = UNet2DConditionModel(
        block_out_channels=(16, 24),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        mid_block_type="UNetMidBlock2D",
        transformer_layers_per_block=[1, [2, 3]],
        reverse_transformer_layers_per_block=[[3, 1, 2], 1],
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=8,
    ).double()
    sample, text = torch.randn(1, 4, 13, 9, dtype=torch.float64), torch.randn(1, 5, 16, dtype=torch.float64)
    with torch.inference_mode():
        plain = PlainUNet(unet)(sample, torch.tensor(321), text, None, 1)
        banded = BandedUNet(unet, 3, STORE, WEIGHTS)(sample, torch.tensor(321), text, None, 1)
    assert (banded - plain).norm() / plain.norm() < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("dilation", [2, 4, 16])
def test_with_dilation(family: str, dilation: int) -> None:
    banded, plain = both(family, 18, 11, 5, dilation)
    assert (banded - plain).norm() / plain.norm() < 1e-10


@given(
    family=st.sampled_from(FAMILIES),
    height=st.integers(2, 20),
    width=st.integers(2, 12),
    band_rows=st.integers(1, 24),
    dilation=st.sampled_from([1, 2, 3]),
)
@settings(deadline=None, max_examples=25)
def test_any_size(family: str, height: int, width: int, band_rows: int, dilation: int) -> None:
    banded, plain = both(family, height, width, band_rows, dilation)
    assert banded.shape == plain.shape
    assert (banded - plain).norm() / plain.norm() < 1e-10


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("band_rows", [1, 2, 3, 7, 8, 16])
def test_equals_the_untouched_unet_in_float32(family: str, band_rows: int) -> None:
    tensors, config = load_golden(DATA / f"unet_{family}.safetensors")
    unet = golden_unet(tensors, config)
    LinFusion.load(DATA / f"linfusion_{family}").mount(unet)
    added = {name: tensors[name][:1] for name in ("text_embeds", "time_ids") if name in tensors}
    sample, text = torch.randn(1, 4, 16, 11), tensors["encoder_hidden_states"][:1]
    with torch.inference_mode():
        plain = PlainUNet(unet)(sample, torch.tensor(321), text, added)
        banded = BandedUNet(unet, band_rows, STORE, WEIGHTS)(sample, torch.tensor(321), text, added)
    assert (banded - plain).norm() / plain.norm() < 1e-5


@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_official_code(family: str) -> None:
    tensors, config = load_golden(DATA / f"unet_{family}.safetensors")
    unet = golden_unet(tensors, config)
    LinFusion.load(DATA / f"linfusion_{family}").mount(unet)
    added = {name: tensors[name] for name in ("text_embeds", "time_ids") if name in tensors}
    with torch.inference_mode():
        banded = BandedUNet(unet, 5, STORE, WEIGHTS)(
            tensors["sample"], tensors["timestep"], tensors["encoder_hidden_states"], added
        )
    assert torch.allclose(banded, tensors["noise_pred"], atol=1e-5, rtol=1e-5)
