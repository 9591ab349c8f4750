"""Latents of unit scale."""

import pytest
import torch

from linfusion_cli.landscapes import train_autoencoder

pytestmark = pytest.mark.slow


def test_standardised_latents_have_unit_scale_and_decode_the_same() -> None:
    torch.manual_seed(0)
    vae = train_autoencoder.build().eval()
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        x = images.float() / 127.5 - 1
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        train_autoencoder.standardise(vae, images)
        latents = vae.encode(x).latent_dist.mean
        after = vae.decode(latents).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-4)
