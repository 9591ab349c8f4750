"""Trains the built-in model's autoencoder (f=8, no mid-block attention)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.files import replacing
from linfusion_cli.landscapes.data import Bucket, Effort, Images, gather, render_bucket, signed
from linfusion_cli.landscapes.disc_weights import disc_weights
from linfusion_cli.landscapes.latent_noise import with_noise
from linfusion_cli.training.checkpoint import Identity
from linfusion_cli.training.muon import muon_for
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import Progress, Run, Settings

# Images of 512 pixels too: with the group statistics of small crops alone, the colours of large images would shift.
BUCKETS = (
    Bucket(128, 128, 4800, windows=False),
    Bucket(128, 128, 7200, windows=True),
    Bucket(512, 512, 240, windows=False),
    Bucket(512, 512, 480, windows=True),
)
CHANNELS = (16, 32, 64, 96)
# What the denoiser leaves: the decoder learns to draw from latents that are a little off, of deviation 1.
LATENT_NOISE = 0.12


@dataclass(frozen=True, slots=True)
class Crop:
    """One kind of batch: squares of so many pixels, how many, and the share of the steps that take it."""

    size_px: int
    count: int
    share: float


CROPS = (Crop(64, 24, 0.30), Crop(128, 6, 0.35), Crop(256, 2, 0.20), Crop(512, 1, 0.15))


def build() -> AutoencoderKL:
    """The untrained autoencoder: 3 x H x W in [-1, 1] to 4 x H/8 x W/8."""
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=8,
        sample_size=128,
        scaling_factor=1.0,
        mid_block_add_attention=False,
    )


def loss_terms(
    vae: AutoencoderKL, images: Tensor, discs: Tensor, draw: torch.Generator, latent_noise: float = 0.0
) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 + gradient L1 + MSE, and a whisper of KL.

    images: (B, 3, H, W) in [-1, 1]; discs: (B, 3) in pixels, where errors count more (disc_weights)
    latent_noise: the largest deviation of noise in the latents; each image has its own, drawn from `draw`
    """
    posterior = vae.encode(images).latent_dist
    latents = posterior.sample()
    if latent_noise:
        latents = with_noise(latents, latent_noise, draw)
    output = vae.decode(latents).sample.float()
    error, weights = output - images, disc_weights(discs, *images.shape[2:])
    down, right = error.diff(dim=2).abs() * weights[:, :, 1:], error.diff(dim=3).abs() * weights[..., 1:]
    kl = 0.5 * (posterior.mean.float().square() + posterior.logvar.float().exp() - 1 - posterior.logvar.float()).mean()
    shape = (error.abs() * weights).mean() + 0.7 * (down.mean() + right.mean()) + 2 * (error.square() * weights).mean()
    psnr = -10 * torch.log10(error.detach().square().mean() / 4)
    return shape + 1e-4 * kl, {"psnr": psnr, "kl": kl.detach(), "weighted": shape.detach()}


def train(
    folder: Path, schedule: Schedule, effort: Effort, start: Path | None = None, *, decoder_only: bool = False
) -> Iterator[str | Progress]:
    """Trains in `folder`, going on where it was; yields notes and progress, then writes `folder/vae`.

    start:        the folder of a model (diffusers layout) whose autoencoder is trained further, None for a new one
    decoder_only: leaves the encoder, and with it what latents mean, as it is: a trained denoiser stays right. The
                  decoder learns to draw from latents with noise of up to LATENT_NOISE.
    """
    torch.manual_seed(effort.seed)
    accelerator, seed = effort.accelerator, effort.seed
    buckets = [bucket.times(effort.scenes) for bucket in BUCKETS]
    yield f"rendering {sum(bucket.count for bucket in buckets)} images"
    images = _by_size([gather(render_bucket(bucket, seed, accelerator.device)) for bucket in buckets])
    vae = (AutoencoderKL.from_pretrained(start / "vae").float() if start else build()).to(
        memory_format=torch.channels_last
    )
    if decoder_only:
        vae.encoder.requires_grad_(False)
        vae.quant_conv.requires_grad_(False)
    identity: Identity = {
        "part": "autoencoder",
        "start": start.name if start else "",
        "decoder_only": decoder_only,
        **effort.identity(),
    }
    settings = Settings(identity=identity, seed=seed)
    run = Run(folder, vae, muon_for(vae, outer=("conv_in", "conv_out", "quant_conv")), schedule, settings, accelerator)

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + index)
        batch, discs = _batch(images, draw, effort.batch)
        return loss_terms(vae, batch, discs, draw, LATENT_NOISE if decoder_only else 0.0)

    yield from run.train(loss_of)
    vae.load_state_dict(run.average.weights)
    if not decoder_only:
        small = images[min(images)].images
        standardise(vae, small[torch.randperm(len(small))[:512]])
    with replacing(folder / "vae", folders=True) as part:
        vae.half().save_pretrained(part)


def _batch(images: dict[int, Images], draw: torch.Generator, times: int) -> tuple[Tensor, Tensor]:
    """Random squares, (B, 3, size, size) in [-1, 1], cut from the smallest images that hold them; their discs (B, 3).

    B is `times` the count of the kind of batch that is drawn.
    """
    crop = CROPS[int(torch.multinomial(torch.tensor([crop.share for crop in CROPS]), 1, generator=draw))]
    source = images[min(size for size in images if size >= crop.size_px)]
    chosen = torch.randint(len(source.images), (crop.count * times,), generator=draw)
    corners = torch.randint(source.images.shape[-1] - crop.size_px + 1, (crop.count * times, 2), generator=draw)
    squares = [
        source.images[index, :, top : top + crop.size_px, left : left + crop.size_px]
        for index, (top, left) in zip(chosen.tolist(), corners.tolist(), strict=True)
    ]
    batch, discs = signed(torch.stack(squares)), source.discs[chosen.to(source.discs.device)].clone()
    discs[:, :2] -= corners.flip(1).to(discs.device)
    if torch.rand(1, generator=draw) < 0.5:
        batch = batch.flip(-1)
        discs[:, 0] = crop.size_px - discs[:, 0]
    return batch.contiguous(memory_format=torch.channels_last), discs


def _by_size(buckets: list[Images]) -> dict[int, Images]:
    """Buckets of square images, joined by their size in pixels."""
    sizes = {part.images.shape[-1] for part in buckets}
    return {size: gather(part for part in buckets if part.images.shape[-1] == size) for size in sizes}


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: Tensor) -> None:
    """Folds each latent channel's mean and scale into the 1x1 convolutions around the latents.

    Afterwards the latents of `images` (uint8) have mean 0 and deviation 1, so that scaling_factor is 1.
    """
    quant, post = vae.quant_conv, vae.post_quant_conv
    latents = torch.cat([vae.encode(signed(part)).latent_dist.mean for part in images.split(32)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    scale = torch.cat([1 / deviation, torch.ones_like(deviation)])
    quant.weight.mul_(scale.view(-1, 1, 1, 1))
    quant.bias.mul_(scale)
    quant.bias[:channels] -= mean / deviation
    quant.bias[channels:] -= 2 * deviation.log()  # the posterior's log-variance shrinks with its mean
    post.bias.add_(F.conv2d(mean.view(1, -1, 1, 1), post.weight).flatten())
    post.weight.mul_(deviation.view(1, -1, 1, 1))
