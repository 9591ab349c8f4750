"""An enlarged image's error is a part of the noise: the two ways to write a stage's start are one."""

import math

import pytest
import torch

from linfusion_cli.engine.streaming.resize import Resized
from linfusion_cli.engine.streaming.row_source import Parked
from linfusion_cli.geometry import Band, Size
from linfusion_cli.landscapes import enlargement, train_autoencoder, train_denoiser

ALPHAS = train_denoiser.build_scheduler().alphas_cumprod


def test_noise_with_the_error_is_the_start_of_a_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    """sqrt(a) e + sqrt(1 - a) n, the latents of the enlarged image with noise, within 1e-5."""
    monkeypatch.setattr(enlargement, "SHARE", 1.0)
    clean, enlarged, noise = torch.randn(3, 2, 4, 5, 6, generator=torch.Generator().manual_seed(0)).unbind()
    alpha = ALPHAS[enlargement.FIRST_TIMESTEP]
    # The largest k, that of a stage that starts at FIRST_TIMESTEP.
    monkeypatch.setattr(torch, "rand", lambda *shape, generator: torch.full(shape, 1 - 1e-7))
    shifted = enlargement.noise_with_error(noise, enlarged - clean, ALPHAS, torch.Generator())
    start = alpha.sqrt() * enlarged + (1 - alpha).sqrt() * noise
    assert torch.allclose(alpha.sqrt() * clean + (1 - alpha).sqrt() * shifted, start, atol=1e-5)


def test_a_share_of_the_batch_keeps_plain_noise() -> None:
    noise, error = torch.zeros(4000, 1, 1, 1), torch.ones(4000, 1, 1, 1)
    shifted = enlargement.noise_with_error(noise, error, ALPHAS, torch.Generator().manual_seed(1)).flatten()
    assert float((shifted == 0).float().mean()) == pytest.approx(1 - enlargement.SHARE, abs=0.03)
    alpha = ALPHAS[enlargement.FIRST_TIMESTEP]
    assert float(shifted.max()) == pytest.approx(math.sqrt(alpha / (1 - alpha)), rel=0.01)


def test_images_are_enlarged_as_the_upscale_enlarges_them() -> None:
    image = torch.rand(1, 3, 12, 20, generator=torch.Generator().manual_seed(2))
    rows = Resized.to(Parked.of(image), Size(40, 24), "lanczos", -math.inf, math.inf)
    assert torch.allclose(enlargement.enlarge(image), rows.rows(Band(0, 24)), atol=1e-5)


@pytest.mark.slow
def test_latents_of_an_enlarged_image_have_its_size_and_their_own_noise() -> None:
    torch.manual_seed(0)
    vae = train_autoencoder.build().eval()
    halves, tokens = torch.rand(2, 3, 32, 48) * 2 - 1, torch.zeros(2, 7, dtype=torch.long)
    first, again, other = (
        enlargement.enlarged_latents(vae, halves, tokens, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert first.shape == (2, 4, 8, 12)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.slow
def test_a_redrawn_half_is_enlarged_without_further_noise() -> None:
    torch.manual_seed(0)
    vae = train_autoencoder.build().eval()
    halves, tokens = torch.rand(2, 3, 32, 48) * 2 - 1, torch.arange(14).view(2, 7)
    seen: list[torch.Tensor] = []

    def redraw(latents: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        seen.extend((latents, ids))
        return torch.zeros_like(latents)

    redrawn = enlargement.enlarged_latents(vae, halves, tokens, torch.Generator(), redraw)
    assert seen[0].shape == (2, 4, 4, 6)
    assert seen[1] is tokens
    assert torch.allclose(redrawn[0], redrawn[1], atol=1e-5)
