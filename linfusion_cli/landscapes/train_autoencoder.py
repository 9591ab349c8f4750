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
from linfusion_cli.landscapes.data import Bucket, Effort, gather, render_bucket
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
    yield f"rendering {sum(bucket.count for bucket in buckets)} images"
    images = _by_size([gather(render_bucket(bucket, seed, accelerator.device)).images for bucket in buckets])
    vae = (AutoencoderKL.from_pretrained(start / "vae").float() if start else build()).to(
        memory_format=torch.channels_last
    )
    settings = Settings(
        identity={"part": "autoencoder", "start": start.name if start else "", **effort.identity()}, seed=seed
    )
    run = Run(folder, vae, muon_for(vae, outer=("conv_in", "conv_out", "quant_conv")), schedule, settings, accelerator)

    def loss_of(index: int) -> tuple[Tensor, dict[str, Tensor]]:
        draw = torch.Generator().manual_seed(seed * 1_000_003 + index)
        return loss_terms(vae, _batch(images, draw, effort.batch))

    yield from run.train(loss_of)
    vae.load_state_dict(run.average.weights)
    small = images[min(images)]
    standardise(vae, small[torch.randperm(len(small))[:512]])
    with replacing(folder / "vae", folders=True) as part:
        vae.half().save_pretrained(part)


def _batch(images: dict[int, Tensor], draw: torch.Generator, times: int) -> Tensor:
    """Random squares, (B, 3, size, size) in [-1, 1], cut from the smallest images that hold them.

    B is `times` the count of the kind of batch that is drawn.
    """
    crop = CROPS[int(torch.multinomial(torch.tensor([crop.share for crop in CROPS]), 1, generator=draw))]
    large_enough = images[min(size for size in images if size >= crop.size_px)]
    chosen = torch.randint(len(large_enough), (crop.count * times,), generator=draw)
    corners = torch.randint(large_enough.shape[-1] - crop.size_px + 1, (crop.count * times, 2), generator=draw).tolist()
    squares = [
        large_enough[index, :, top : top + crop.size_px, left : left + crop.size_px]
        for index, (top, left) in zip(chosen.tolist(), corners, strict=True)
    ]
    batch = torch.stack(squares).float() / 127.5 - 1
    if torch.rand(1, generator=draw) < 0.5:
        batch = batch.flip(-1)
    return batch.contiguous(memory_format=torch.channels_last)


def _by_size(buckets: list[Tensor]) -> dict[int, Tensor]:
    """Square images (count, 3, size, size), joined by their size in pixels."""
    sizes = {part.shape[-1] for part in buckets}
    return {size: torch.cat([part for part in buckets if part.shape[-1] == size]) for size in sizes}


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
