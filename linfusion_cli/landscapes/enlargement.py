"""Teaches the denoiser what a stage of the upscale starts from: an enlarged image, which lacks detail and has faults.

A stage noises the latents e of an enlarged image, where those of a true image would be z (arXiv 2311.16973):
x_t = sqrt(a) e + sqrt(1 - a) n. As a function of z this is x_t = sqrt(a) z + sqrt(1 - a) (n + k (e - z)) with
k = sqrt(a / (1 - a)) at the stage's first timestep, and a deterministic sampler carries n + k (e - z) along unchanged
(arXiv 2010.02502, equation 12). So the enlargement's error is a part of the noise, which the denoiser learns to see.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from linfusion_cli.engine.streaming.resize import Taps
from linfusion_cli.landscapes.latent_noise import with_noise

SHARE = 0.6  # of the windows, those whose noise holds an enlargement's error
FIRST_TIMESTEP = 300  # the lowest that a stage starts at; the higher, the smaller k
Redraw = Callable[[Tensor, Tensor], Tensor]  # latents (batch, 4, height, width), tokens (batch, tokens) -> latents
LATENT_NOISE = 0.15  # largest deviation of what a denoiser leaves in the latents of the smaller image


def enlarge(images: Tensor) -> Tensor:
    """Images (batch, 3, height, width) at twice their size, by the upscale's Lanczos filter; float32."""
    down, right = (Taps.between(size, 2 * size, "lanczos").matrix(slice(None))[1] for size in images.shape[2:])
    return down.to(images.device) @ images @ right.to(images.device).T


@torch.no_grad()
def enlarged_latents(
    vae: AutoencoderKL, halves: Tensor, tokens: Tensor, draw: torch.Generator, redraw: Redraw | None = None
) -> Tensor:
    """Latents (batch, 4, height / 8, width / 8) of images that a stage before drew and the upscale enlarged.

    halves: (batch, 3, height / 2, width / 2) in [-1, 1], the same views drawn with half as many pixels
    tokens: (batch, tokens), of their captions
    redraw: draws the halves' latents as a model does; without it they get noise instead
    """
    latents = vae.encode(halves).latent_dist.mean
    latents = with_noise(latents, LATENT_NOISE, draw) if redraw is None else redraw(latents, tokens)
    larger = enlarge(vae.decode(latents).sample.clamp(-1, 1))
    mean: Tensor = vae.encode(larger.contiguous(memory_format=torch.channels_last)).latent_dist.mean
    return mean


def noise_with_error(noise: Tensor, error: Tensor, alphas: Tensor, draw: torch.Generator) -> Tensor:
    """Noise (batch, 4, height, width) with k times the error of an enlargement in SHARE of the batch.

    error: e - z, latents of the enlarged image minus those of the image; alphas: cumulative, by timestep
    """
    alpha = alphas[FIRST_TIMESTEP]
    largest = (alpha / (1 - alpha)).sqrt()
    k = largest * torch.rand(len(noise), generator=draw) * (torch.rand(len(noise), generator=draw) < SHARE)
    return noise + k.view(-1, 1, 1, 1).to(noise.device) * error
