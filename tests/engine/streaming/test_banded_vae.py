"""The autoencoder in bands equals the plain one, for any band height, with and without a mid-block attention."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL
from golden import golden_vae, load_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import KEEPS, tiny_vae

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming.banded_vae import Sweeper, swept_rows
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.planning.memory_budget import Keep

pytestmark = pytest.mark.slow  # all of them together


def decode(vae: AutoencoderKL, latents: torch.Tensor, band_px: int, keep: tuple[Keep, ...]) -> torch.Tensor:
    told: list[int] = []
    bands = list(Sweeper(vae, band_px, keep, 10**6, STORE, told.append).decode(latents))
    image = torch.cat([rows for _, rows in bands], dim=2)
    assert [band.top for band, _ in bands] == list(range(0, image.shape[2], band_px))
    assert sum(told) == swept_rows(vae, image.shape[2], encode=False)
    return image


STORE = ActivationStore.unlimited(torch.device("cpu"))


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("band_px", [1, 2, 3, 7, 24, 1000])
def test_decode_equals_the_plain_decode(attention: bool, keep: tuple[Keep, ...], band_px: int) -> None:
    vae, latents = tiny_vae(attention=attention), torch.randn(1, 4, 9, 6)
    with torch.no_grad():
        plain = vae.decode(latents).sample
    assert torch.allclose(decode(vae, latents, band_px, keep), plain, atol=1e-5, rtol=1e-5)


@given(height=st.integers(1, 9), width=st.integers(1, 9), band_px=st.integers(1, 40), keep=st.sampled_from(KEEPS))
@settings(deadline=None, max_examples=25)
def test_any_size_and_band_in_float64(height: int, width: int, band_px: int, keep: tuple[Keep, ...]) -> None:
    """In double precision the only difference left is a rounding: the method is exact."""
    vae, latents = tiny_vae().double(), torch.randn(1, 4, height, width, dtype=torch.float64)
    with torch.no_grad():
        plain = vae.decode(latents).sample
    assert torch.allclose(decode(vae, latents, band_px, keep).double(), plain, atol=1e-5)


@pytest.mark.parametrize("attention", [False, True])
@pytest.mark.parametrize("keep", KEEPS)
@pytest.mark.parametrize("band_px", [1, 3, 8, 1000])
def test_encode_equals_the_plain_encode(attention: bool, keep: tuple[Keep, ...], band_px: int) -> None:
    vae, image = tiny_vae(attention=attention), torch.rand(1, 3, 36, 20) * 2 - 1
    with torch.no_grad():
        plain = vae.encode(image).latent_dist.mean
    told: list[int] = []
    swept = Sweeper(vae, band_px, keep, 10**6, STORE, told.append).encode(Parked.of(image))
    assert torch.allclose(swept, plain, atol=1e-5, rtol=1e-5)
    assert sum(told) == swept_rows(vae, 36, encode=True)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_images_are_float32_whatever_the_autoencoder_is(dtype: torch.dtype) -> None:
    """Between stages they wait so; bfloat16 keeps 8 bits, hence the tolerance."""
    vae, image = tiny_vae(), torch.rand(1, 3, 32, 24) * 2 - 1
    with torch.no_grad():
        plain = vae.encode(image).latent_dist.mean
    swept = Sweeper(vae.to(dtype), 5, KEEPS[0], 10**6, STORE, lambda _: None).encode(Parked.of(image))
    assert swept.dtype == torch.float32
    assert torch.allclose(swept, plain, atol=0.05 if dtype == torch.bfloat16 else 1e-5)


def test_equals_the_autoencoder_of_the_official_run(data: Path) -> None:
    tensors, config = load_golden(data / "highres_sdxl.safetensors")
    vae = golden_vae(tensors, config)
    keep: tuple[Keep, ...] = ("sums",) * len(vae.config.block_out_channels)
    for stage in (0, 1, 2):
        latents = tensors[f"stage{stage}.final_latents"] / vae.config.scaling_factor
        image = torch.cat(
            [rows for _, rows in Sweeper(vae, 5, keep, 10**6, STORE, lambda _: None).decode(latents)], dim=2
        )
        assert torch.allclose(image, tensors[f"stage{stage}.decoded"], atol=1e-4)
    for stage in (1, 2):
        latents = Sweeper(vae, 6, keep, 10**6, STORE, lambda _: None).encode(
            Parked.of(tensors[f"stage{stage}.encode_input"])
        )
        assert torch.allclose(latents, tensors[f"stage{stage}.encode_mean"], atol=1e-4)


def test_diffusers_tiling_is_not_good_enough() -> None:
    """Why we sweep: per-tile statistics are far from the plain decode (design 5)."""
    vae, latents = tiny_vae(), torch.randn(1, 4, 32, 32) * torch.linspace(0.2, 2, 32).view(1, 1, 32, 1)
    with torch.no_grad():
        plain = vae.decode(latents).sample
        vae.tile_latent_min_size, vae.tile_sample_min_size = 16, 64
        vae.enable_tiling()
        tiled = vae.decode(latents).sample
    ours = (decode(vae, latents, 16, ("all",) * 3) - plain).abs().max()
    assert ours < (tiled - plain).abs().max() / 100
