"""The guidance embedding of latent consistency models is that of diffusers."""

import pytest
import torch
from diffusers import StableDiffusionPipeline

from linfusion_cli.engine.sampling.guidance_embedding import guidance_embedding


@pytest.mark.parametrize("dim", [4, 7, 256])
@pytest.mark.parametrize("scale", [1.0, 1.5, 8.5, 100.0])
def test_it_is_that_of_diffusers(scale: float, dim: int) -> None:
    theirs = StableDiffusionPipeline.get_guidance_scale_embedding(None, torch.tensor([scale - 1]), dim)
    assert torch.equal(guidance_embedding(scale, dim), theirs)
