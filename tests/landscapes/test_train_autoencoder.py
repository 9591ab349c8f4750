"""Latents of unit scale, and batches that do not depend on the process."""

import pytest
import torch

from linfusion_cli.landscapes import data, train_autoencoder
from linfusion_cli.landscapes.data import Bucket

pytestmark = pytest.mark.slow


def test_batches_do_not_depend_on_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linfusion_cli.landscapes.data.os.cpu_count", lambda: 1)
    bucket = Bucket(16, 24, 6, windows=True)
    first, second = data.gather(data.render_bucket(bucket, 3, torch.device("cpu"))), data._render_batch((bucket, 3, 0))
    assert isinstance(first, data.Images)
    assert torch.equal(first.images, second.images)
    assert first.captions == second.captions
    assert first.images.shape == (6, 3, 16, 24)


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
