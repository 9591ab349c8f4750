"""Trains a LoRA of the built-in model's UNet for the stages of an upscale; the first stage does without it.

A stage starts from an image that the stage before drew. The windows' halves are therefore redrawn by the model itself,
and the LoRA learns to draw what the scene shows there: round discs, sharp ridges. Nothing that composes an image is
trained, so none of it is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils import parametrize

from linfusion_cli.files import replacing
from linfusion_cli.landscapes.data import Bucket, Effort
from linfusion_cli.landscapes.train_denoiser import (
    WINDOW_TIMESTEPS,
    Batches,
    Student,
    build_scheduler,
    collected,
    noised,
    prepare,
    token_ids,
    tokenizer_of,
)
from linfusion_cli.training.checkpoint import Identity
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import Progress, Run, Settings, averaged

RANK = 16
KEPT_RANK = 8  # of the file: half its size; 97 % of the squared singular values of the one that ships
FACTORS = ("lora_A", "lora_B")  # down and up, as diffusers names them
BUCKETS = (
    Bucket(128, 128, 4800, windows=True, halves=True),
    Bucket(256, 256, 1440, windows=True, halves=True),
    Bucket(512, 512, 384, windows=True, halves=True),
)
SHARES = (0.3, 0.4, 0.3)
REDRAWN_STEPS = 4


class LowRank(nn.Module):
    """A weight plus the product of two factors (arXiv 2106.09685, equation 3); zero at the start.

    lora_A: (rank, inputs, ...), lora_B: (outputs, rank, 1, ...), of the weight's own number of dimensions
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        ones = [1] * (weight.ndim - 2)
        self.lora_A = nn.Parameter(torch.empty(rank, *weight.shape[1:]))
        self.lora_B = nn.Parameter(torch.zeros(len(weight), rank, *ones))
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.lora_B.flatten(1) @ self.lora_A.flatten(1)).reshape(weight.shape)


def add_low_rank(student: Student, rank: int = RANK) -> dict[str, LowRank]:
    """Puts factors beside every convolution and product of the UNet with linear attention, by layer name.

    Everything else of the student learns no more. The attention's f has none: no LoRA file has a name for it.
    """
    student.requires_grad_(False)
    student.linfusion.mount(student.unet)
    layers = {
        name: module
        for name, module in student.unet.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear) and not {"to_q_", "to_k_"} & set(name.split("."))
    }
    added = {name: LowRank(layer.weight, rank) for name, layer in layers.items()}
    for name, layer in layers.items():
        parametrize.register_parametrization(layer, "weight", added[name])
    student.linfusion.unmount(student.unet)
    return added


@dataclass(frozen=True, slots=True)
class Redrawing:
    """Draws latents again with a model, from a timestep on that is each image's own, as a stage of an upscale does."""

    model: Student
    alphas: Tensor
    draw: torch.Generator

    @torch.no_grad()
    def __call__(self, latents: Tensor, tokens: Tensor) -> Tensor:
        """Latents (batch, 4, height, width) after DDIM (arXiv 2010.02502, equation 12); tokens (batch, tokens)."""
        first = torch.randint(1, WINDOW_TIMESTEPS, (len(latents),), generator=self.draw)
        noise = torch.randn(latents.shape, generator=self.draw).to(latents.device)
        clean = latents
        for step in range(REDRAWN_STEPS):
            timesteps = first * (REDRAWN_STEPS - step) // REDRAWN_STEPS
            alpha = self.alphas[timesteps].view(-1, 1, 1, 1).to(latents.device)
            noisy = noised(clean, noise, alpha)
            noise = self.model.predict(noisy, timesteps.to(latents.device), tokens, linear=True).float()
            clean = (noisy - (1 - alpha).sqrt() * noise) / alpha.sqrt()
        return clean


def train(folder: Path, schedule: Schedule, effort: Effort, start: Path) -> Iterator[str | Progress]:
    """Trains in `folder` a LoRA of the model in `start`, going on where it was; yields notes and progress."""
    torch.manual_seed(effort.seed)
    folder.mkdir(parents=True, exist_ok=True)
    device = effort.accelerator.device
    tokenizer = tokenizer_of(folder, effort, start)
    vae = AutoencoderKL.from_pretrained(start / "vae").float().to(device, memory_format=torch.channels_last)
    student, alphas = Student.of(start), build_scheduler().alphas_cumprod
    redraw = Redrawing(Student.of(start).frozen(device), alphas, torch.Generator().manual_seed(effort.seed))
    buckets = yield from collected(prepare(folder, vae, tokenizer, effort, BUCKETS, redraw))
    factors = nn.ModuleList(add_low_rank(student).values())
    student.to(device)
    identity: Identity = {"part": "upscale-lora", "start": start.name, **effort.identity()}
    optimizer = torch.optim.AdamW(factors.parameters(), betas=(0.9, 0.99), weight_decay=0.0)
    settings = Settings(identity=identity, seed=effort.seed, decay=0.995)
    run = Run(folder, factors, optimizer, schedule, settings, effort.accelerator)
    empty = token_ids(tokenizer, [""])
    batches = Batches(buckets, torch.tensor(SHARES), alphas, empty, effort.batch, linear_share=1.0, discs_first=True)
    yield from run.train(batches.loss_of(student, effort.seed))


def export(run_folder: Path, target: Path, start: Path, rank: int = KEPT_RANK) -> int:
    """Saves the moving averages in float16 as a LoRA file of diffusers' layout; returns its size in bytes.

    rank: of the file, of which each product is the nearest one
    """
    weights, tensors = averaged(run_folder), {}
    for number, name in enumerate(add_low_rank(Student.of(start))):
        down, up = (weights[f"{number}.{factor}"] for factor in FACTORS)
        for factor, values in zip(FACTORS, reduced(down, up, rank), strict=True):
            tensors[f"unet.{name}.{factor}.weight"] = values.half().contiguous()
    with replacing(target) as part:
        save_file(tensors, part, {"format": "pt"})
    return target.stat().st_size


def reduced(down: Tensor, up: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """Factors (rank, inputs, ...) and (outputs, rank, ...) of the product of that rank that is nearest to up @ down.

    By its largest singular values (Eckart and Young 1936, Psychometrika 1); the size goes half to each factor.
    """
    left, sizes, right = torch.linalg.svd(up.flatten(1) @ down.flatten(1), full_matrices=False)
    shares = sizes[:rank].sqrt()
    lower, upper = shares[:, None] * right[:rank], left[:, :rank] * shares
    return lower.reshape(-1, *down.shape[1:]), upper.reshape(len(up), -1, *up.shape[2:])
