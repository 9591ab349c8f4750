"""Trains the built-in model's autoencoder (f=8, no mid-block attention)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.landscapes.data import Bucket, Effort, gather, render_bucket
from linfusion_cli.training.muon import muon_for
from linfusion_cli.training.run import Progress, Run, Settings
from linfusion_cli.training.schedule import Schedule

BUCKETS = (Bucket(128, 128, 4800, windows=False), Bucket(128, 128, 7200, windows=True))
CHANNELS = (16, 32, 64, 96)


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


def loss_terms(vae: AutoencoderKL, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """L1 + gradient L1 + MSE, and a whisper of KL; images (B, 3, H, W) in [-1, 1]."""
    posterior = vae.encode(images).latent_dist
    output = vae.decode(posterior.sample()).sample.float()
    error = output - images
    vertical, horizontal = error.diff(dim=2).abs().mean(), error.diff(dim=3).abs().mean()
    mse = error.square().mean()
    kl = 0.5 * (posterior.mean.float().square() + posterior.logvar.float().exp() - 1 - posterior.logvar.float()).mean()
    loss = error.abs().mean() + 0.7 * (vertical + horizontal) + 2 * mse + 1e-4 * kl
    return loss, {"psnr": -10 * torch.log10(mse.detach() / 4), "kl": kl.detach()}


def train(folder: Path, schedule: Schedule, effort: Effort, start: Path | None = None) -> Iterator[str | Progress]:
    """Trains in `folder`, going on where it was; yields notes and progress, then writes `folder/vae`.

    `start` is the folder of a model (diffusers layout) whose autoencoder is trained further, None for a new one.
    """
    torch.manual_seed(effort.seed)
    accelerator, seed = effort.accelerator, effort.seed
    buckets = [bucket.times(effort.scenes) for bucket in BUCKETS]
    yield f"rendering {sum(bucket.count for bucket in buckets)} pictures"
    images = torch.cat([gather(render_bucket(bucket, seed, accelerator.device)).images for bucket in buckets])
    vae = (AutoencoderKL.from_pretrained(start / "vae").float() if start else build()).to(memory_format=torch.channels_last)
    settings = Settings(identity={"part": "autoencoder", "start": start.name if start else "", **effort.identity()}, seed=seed)
    run = Run(folder, vae, muon_for(vae, outer=("conv_in", "conv_out", "quant_conv")), schedule, settings, accelerator)

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + index)
        whole = run.progress > 0.75 or index % 8 == 0  # group statistics must also be those of whole pictures
        batch = _batch(images, draw, count=effort.batch * (6 if whole else 24), crop=128 if whole else 64)
        return loss_terms(vae, batch)

    yield from run.train(loss_of)
    vae.load_state_dict(run.average.weights)
    standardise(vae, images[torch.randperm(len(images))[:512]])
    vae.half().save_pretrained(folder / "vae")


def _batch(images: Tensor, draw: torch.Generator, count: int, crop: int) -> Tensor:
    chosen = torch.randint(len(images), (count,), generator=draw)
    span = images.shape[-1] - crop + 1
    corners = torch.randint(span, (count, 2), generator=draw).tolist()
    crops = [images[index, :, top : top + crop, left : left + crop] for index, (top, left) in zip(chosen.tolist(), corners, strict=True)]
    batch = torch.stack(crops).float() / 127.5 - 1
    if torch.rand(1, generator=draw) < 0.5:
        batch = batch.flip(-1)
    return batch.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def standardise(vae: AutoencoderKL, images: Tensor) -> None:
    """Folds each latent channel's mean and scale into the 1x1 convolutions around the latents.

    Afterwards the latents of `images` (uint8) have mean 0 and deviation 1, so that scaling_factor is 1.
    """
    quant, post = vae.quant_conv, vae.post_quant_conv
    latents = torch.cat([vae.encode(part.float() / 127.5 - 1).latent_dist.mean for part in images.split(32)])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    channels = len(mean)
    scale = torch.cat([1 / deviation, torch.ones_like(deviation)])
    quant.weight.mul_(scale.view(-1, 1, 1, 1))
    quant.bias.mul_(scale)
    quant.bias[:channels] -= mean / deviation
    quant.bias[channels:] -= 2 * deviation.log()  # the posterior's log-variance shrinks with its mean
    post.bias.add_(F.conv2d(mean.view(1, -1, 1, 1), post.weight).flatten())
    post.weight.mul_(deviation.view(1, -1, 1, 1))
