"""Trains the built-in model's text encoder and UNet, with softmax attention alone or with linear attention in turn.

Softmax alone makes the teacher of `linfusion distill`. In turn, the rest of the UNet suits either attention.
Whole scenes are seen at all timesteps, windows into scenes only at low noise: the model composes at its base size and
sharpens at any zoom. Most windows' noise holds what is wrong with an enlarged image, as a stage of an upscale finds it.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.files import replacing
from linfusion_cli.landscapes.data import Bucket, Effort, render_bucket, signed
from linfusion_cli.landscapes.disc_weights import disc_weights
from linfusion_cli.landscapes.enlargement import Redraw, enlarged_latents, noise_with_error
from linfusion_cli.landscapes.lessons import WHOLE_SHARES, WINDOW_SHARES, Lessons
from linfusion_cli.landscapes.tokenizer import MAX_TOKENS, build_tokenizer
from linfusion_cli.training.checkpoint import Identity
from linfusion_cli.training.muon import muon_for
from linfusion_cli.training.schedule import Schedule
from linfusion_cli.training.trainer import LossOf, Progress, Run, Settings

BUCKETS = (
    Bucket(128, 128, 9600, windows=False),
    Bucket(96, 160, 3360, windows=False),
    Bucket(160, 96, 1920, windows=False),
    Bucket(128, 128, 5760, windows=True, halves=True),
    Bucket(256, 256, 1440, windows=True, halves=True),
    Bucket(512, 512, 360, windows=True, halves=True),  # group statistics must also be those of large images
)
SHARES = (*WHOLE_SHARES, *WINDOW_SHARES)
TRAIN_TIMESTEPS = 1000
# Windows are trained on below it only. Above it an image is composed, so half the draws of whole scenes lie there.
WINDOW_TIMESTEPS = 450
TEXT_DIM = 128
TOKENIZER = "tokenizer"
ENCODED_PIXELS = 48 * 256 * 256  # of one call of the encoder: its memory stays bounded


@dataclass(frozen=True, slots=True)
class Latents:
    """A bucket as the UNet sees it: latents (count, 4, height, width), token ids (count, tokens).

    errors: how far the latents of an enlarged image are from these (enlargement.py), of windows
    discs:  (count, 3), centre x, centre y and radius of the sun or moon in latents; radius 0 = none
    """

    latents: Tensor
    tokens: Tensor
    windows: bool
    errors: Tensor | None = None
    discs: Tensor | None = None


def build_unet() -> UNet2DConditionModel:
    """SD-v1.5's layout, small: three levels, attention on the upper two and in the middle."""
    return UNet2DConditionModel(
        sample_size=16,
        down_block_types=("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        block_out_channels=(64, 96, 144),
        layers_per_block=1,
        cross_attention_dim=TEXT_DIM,
        attention_head_dim=4,
        norm_num_groups=16,
    )


def build_text_encoder(tokenizer: Any) -> CLIPTextModel:
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_DIM,
        intermediate_size=2 * TEXT_DIM,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=MAX_TOKENS,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return CLIPTextModel(config)


def build_scheduler() -> DDIMScheduler:
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )


class Student(nn.Module):
    """All that is trained together. The linear attentions are mounted for the steps that use them only."""

    def __init__(self, text_encoder: CLIPTextModel, unet: UNet2DConditionModel) -> None:
        super().__init__()
        self.text_encoder, self.unet = text_encoder, unet.to(memory_format=torch.channels_last)
        self.linfusion = LinFusion.like(unet)
        self.attentions = self.linfusion.attentions

    @staticmethod
    def of(model: Path) -> Student:
        """The text encoder, UNet and linear attentions of a model's folder."""
        pipeline = StableDiffusionPipeline.from_pretrained(model)
        student = Student(pipeline.text_encoder.float(), pipeline.unet.float())
        student.attentions.load_state_dict(LinFusion.load(model / "linfusion").attentions.state_dict())
        return student

    def frozen(self, device: torch.device) -> Student:
        """The same on a device, where it learns no more."""
        return self.to(device).requires_grad_(False)

    def predict(self, noisy: Tensor, timesteps: Tensor, tokens: Tensor, *, linear: bool) -> Tensor:
        embeddings = self.text_encoder(tokens).last_hidden_state
        if linear:
            self.linfusion.mount(self.unet)
        try:
            prediction: Tensor = self.unet(noisy, timesteps, embeddings, return_dict=False)[0]
        finally:
            self.linfusion.unmount(self.unet)
        return prediction


def tokenizer_of(folder: Path, effort: Effort, start: Path | None) -> Any:
    """The tokenizer of a run in `folder`, kept there: of the model that is trained further, or made once.

    The numbers of words that are equally frequent are drawn anew whenever a vocabulary is built.
    """
    path = folder / TOKENIZER
    with effort.accelerator.main_process_first():
        if not path.exists():
            tokenizer = CLIPTokenizer.from_pretrained(start / TOKENIZER) if start else build_tokenizer()
            with replacing(path) as part:
                tokenizer.save_pretrained(part)
    return CLIPTokenizer.from_pretrained(path)


def collected(items: Iterator[str | Latents]) -> Generator[str, None, list[Latents]]:
    """Yields the notes of prepare(), and returns its buckets."""
    buckets: list[Latents] = []
    for item in items:
        if isinstance(item, Latents):
            buckets.append(item)
        else:
            yield item
    return buckets


@torch.no_grad()
def prepare(
    folder: Path,
    vae: AutoencoderKL,
    tokenizer: Any,
    effort: Effort,
    buckets: tuple[Bucket, ...],
    redraw: Redraw | None = None,
) -> Iterator[str | Latents]:
    """Renders and encodes every bucket; yields notes and the buckets. Kept in `folder` for the next start.

    redraw: makes of the latents of halves those that a model draws; without it they get noise
    """
    device = effort.accelerator.device
    for index, bucket in enumerate(bucket.times(effort.scenes) for bucket in buckets):
        path = folder / f"latents-{index}-of-{bucket.count}-seed-{effort.seed}.safetensors"
        with effort.accelerator.main_process_first():
            if not path.exists():
                yield f"rendering and encoding {bucket.count} images of {bucket.width_px}x{bucket.height_px}"
                _encode(path, bucket, vae, tokenizer, effort, redraw)
        stored = load_file(path)  # safetensors knows no "cpu:0", as the device of several processes is called
        yield Latents(windows=bucket.windows, **{name: tensor.to(device) for name, tensor in stored.items()})


def _encode(
    path: Path, bucket: Bucket, vae: AutoencoderKL, tokenizer: Any, effort: Effort, redraw: Redraw | None
) -> None:
    latents, errors, tokens, discs = [], [], [], []
    draw = torch.Generator().manual_seed(effort.seed)
    for part in render_bucket(bucket, effort.seed + 1, effort.accelerator.device):
        few = max(1, ENCODED_PIXELS // part.images[0, 0].numel())
        clean = [vae.encode(signed(images)).latent_dist.mean for images in part.images.split(few)]
        latents.append(torch.cat(clean))
        tokens.append(token_ids(tokenizer, list(part.captions)))
        discs.append(part.discs * (latents[-1].shape[2] / bucket.height_px))
        if part.halves is not None:
            pairs = zip(part.halves.split(few), tokens[-1].to(part.halves.device).split(few), strict=True)
            enlarged = [enlarged_latents(vae, signed(halves), ids, draw, redraw) for halves, ids in pairs]
            errors.append(torch.cat(enlarged) - latents[-1])
    tensors = {"latents": torch.cat(latents).contiguous(), "tokens": torch.cat(tokens), "discs": torch.cat(discs)}
    if errors:
        tensors["errors"] = torch.cat(errors).contiguous()
    with replacing(path) as part_path:
        save_file(tensors, part_path)


def token_ids(tokenizer: Any, captions: list[str]) -> Tensor:
    """The token ids of captions, (captions, tokens), padded."""
    ids: Tensor = tokenizer(
        captions, padding="max_length", truncation=True, max_length=MAX_TOKENS, return_tensors="pt"
    ).input_ids
    return ids


def train(
    folder: Path, vae_folder: Path, schedule: Schedule, effort: Effort, lessons: Lessons
) -> Iterator[str | Progress]:
    """Trains in `folder`, going on where it was; yields notes and progress."""
    torch.manual_seed(effort.seed)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = effort.accelerator
    tokenizer = tokenizer_of(folder, effort, lessons.start)
    vae = AutoencoderKL.from_pretrained(vae_folder).float().to(accelerator.device, memory_format=torch.channels_last)
    buckets = yield from collected(prepare(folder, vae, tokenizer, effort, BUCKETS))
    student = Student.of(lessons.start) if lessons.start else Student(build_text_encoder(tokenizer), build_unet())
    identity: Identity = {"part": "denoiser", **lessons.identity(), **effort.identity()}
    settings = Settings(identity=identity, seed=effort.seed, decay=0.998)
    run = Run(
        folder, student, muon_for(student, outer=("embed", "conv_in", "conv_out")), schedule, settings, accelerator
    )
    alphas, shares = build_scheduler().alphas_cumprod, shares_of(buckets, lessons.window_share)
    kept = Student.of(lessons.start).frozen(accelerator.device) if lessons.start and lessons.keep_composition else None
    batches = Batches(buckets, shares, alphas, token_ids(tokenizer, [""]), effort.batch, lessons.linear_share, kept)
    yield from run.train(batches.loss_of(student, effort.seed))


def shares_of(buckets: list[Latents], window_share: float) -> Tensor:
    """The part of the steps of each bucket, (buckets,): SHARES, but with so much for all windows together."""
    windows, shares = torch.tensor([bucket.windows for bucket in buckets]), torch.tensor(SHARES[: len(buckets)])
    scale = torch.where(windows, window_share / shares[windows].sum(), (1 - window_share) / shares[~windows].sum())
    return shares * scale


def draw_timesteps(count: int, draw: torch.Generator, *, windows: bool) -> Tensor:
    """Timesteps (count,), int64: of windows below WINDOW_TIMESTEPS; of whole scenes any, more of those that compose."""
    if windows:
        return torch.randint(WINDOW_TIMESTEPS, (count,), generator=draw)
    anywhere = torch.randint(TRAIN_TIMESTEPS, (count,), generator=draw)
    composing = torch.randint(WINDOW_TIMESTEPS, TRAIN_TIMESTEPS, (count,), generator=draw)
    return torch.where(torch.rand(count, generator=draw) < 0.5, composing, anywhere)


def noised(clean: Tensor, noise: Tensor, alpha: Tensor) -> Tensor:
    """x_t (arXiv 2006.11239, equation 4), channels-last; alpha: the cumulative one, (batch, 1, 1, 1)."""
    return (alpha.sqrt() * clean + (1 - alpha).sqrt() * noise).contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True, slots=True)
class Batches:
    """What the loss draws from: the buckets, their shares of the steps, the noise schedule, the tokens of no text.

    kept: a model whose predictions from WINDOW_TIMESTEPS on are learned in place of the noise (arXiv 1606.09282)
    discs_first: errors at suns and moons count more (disc_weights.py)
    """

    buckets: list[Latents]
    shares: Tensor
    alphas: Tensor
    empty: Tensor
    batch: int
    linear_share: float
    kept: Student | None = None
    discs_first: bool = False

    def loss_of(self, student: Student, seed: int) -> LossOf:
        """The loss of a batch by its index alone, as a run takes it."""
        return lambda index: self.loss(student, torch.Generator().manual_seed(seed * 1_000_003 + index))

    def loss(self, student: Student, draw: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Noise prediction error with min-SNR-5 weights (arXiv 2303.09556) on one batch of one bucket."""
        bucket = self.buckets[int(torch.multinomial(self.shares, 1, generator=draw))]
        count, device = max(3, 48 * 256 // bucket.latents[0, 0].numel()) * self.batch, bucket.latents.device
        chosen = torch.randint(len(bucket.latents), (count,), generator=draw).to(device)
        dropped = torch.rand(count, 1, generator=draw) < 0.1  # for classifier-free guidance
        timesteps = draw_timesteps(count, draw, windows=bucket.windows)
        linear = bool(torch.rand(1, generator=draw) < self.linear_share)
        alpha = self.alphas[timesteps].view(-1, 1, 1, 1).to(device)
        clean, tokens = (
            bucket.latents[chosen],
            torch.where(dropped.to(device), self.empty.to(device), bucket.tokens[chosen]),
        )
        noise = torch.randn(clean.shape, generator=draw).to(device)
        if bucket.errors is not None:
            noise = noise_with_error(noise, bucket.errors[chosen], self.alphas, draw)
        noisy = noised(clean, noise, alpha)
        prediction = student.predict(noisy, timesteps.to(device), tokens, linear=linear).float()
        target = self._target(noise, noisy, timesteps, tokens, linear=linear)
        ratio = alpha / (1 - alpha)
        weights = ratio.clamp(max=5) / ratio
        if self.discs_first and bucket.discs is not None:
            weights = weights * disc_weights(bucket.discs[chosen], *clean.shape[2:])
        loss = ((prediction - target).square() * weights).mean()
        value = loss.detach()
        return loss, {("window" if bucket.windows else "whole"): value, ("linear" if linear else "softmax"): value}

    @torch.no_grad()
    def _target(self, noise: Tensor, noisy: Tensor, timesteps: Tensor, tokens: Tensor, *, linear: bool) -> Tensor:
        """The noise; where an image is composed, what the kept model predicts, if there is one."""
        composing = timesteps >= WINDOW_TIMESTEPS
        if self.kept is None or not composing.any():
            return noise
        target, device = noise.clone(), noise.device
        chosen = composing.nonzero().flatten().to(device)
        target[chosen] = self.kept.predict(
            noisy[chosen], timesteps.to(device)[chosen], tokens[chosen], linear=linear
        ).float()
        return target
