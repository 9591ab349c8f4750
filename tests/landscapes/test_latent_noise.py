"""Each image's noise has a deviation of its own, and depends on the generator alone."""

import torch

from linfusion_cli.landscapes.latent_noise import with_noise


def test_deviations_lie_between_none_and_the_largest() -> None:
    latents = torch.ones(200, 4, 16, 16)
    first, again = (with_noise(latents, 0.5, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, again)
    deviations = (first - latents).flatten(1).std(1)
    assert 0.45 < float(deviations.max()) < 0.55
    assert float(deviations.min()) < 0.05
    assert torch.equal(with_noise(latents, 0.0, torch.Generator()), latents)
