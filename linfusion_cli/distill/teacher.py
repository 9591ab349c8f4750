"""The teacher: any pipeline in the layout of SD-v1.5, v2.1 or XL, and how it sees images and captions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils.logging import disable_progress_bar
from torch import Tensor

from linfusion_cli.distill.loss import Batch
from linfusion_cli.engine.attention.linfusion import self_attentions
from linfusion_cli.errors import WeightsError, nearest
from linfusion_cli.json_files import read_json
from linfusion_cli.weights.locate import find_first

LAYOUTS = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
INDEX = "model_index.json"


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen pipeline in float32 on one device."""

    pipeline: Any
    device: torch.device

    @staticmethod
    def load(location: str, device: torch.device) -> Teacher:
        """Loads a built-in model, a folder, or a hub repository that is in the cache.

        Raises WeightsError if it is not on this machine, not complete, or of a layout that LinFusion is not made for.
        """
        disable_progress_bar()
        folder = find_first((location,), "", "model")
        try:
            name = read_json(folder / INDEX)["_class_name"]
        except (OSError, ValueError, KeyError) as error:
            raise WeightsError(
                f"{location}: not a pipeline in diffusers layout: {INDEX} can't be read ({error})"
            ) from error
        if name not in LAYOUTS:
            raise WeightsError(
                f'{location}: the layout "{name}" is unknown to linfusion. {nearest(str(name), LAYOUTS)}'
            )
        options = (
            {}
            if "XL" in name
            else {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
        )
        try:
            pipeline = LAYOUTS[name].from_pretrained(
                folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, **options
            )
        except (OSError, ValueError) as error:
            raise WeightsError(f"{location}: not a complete {name} ({error})") from error
        if not self_attentions(pipeline.unet):
            raise WeightsError(f"{location}: its UNet has no self-attention to replace")
        pipeline.to(device)
        for part in (pipeline.unet, pipeline.vae, pipeline.text_encoder, getattr(pipeline, "text_encoder_2", None)):
            if part is not None:
                part.eval().requires_grad_(False)
        return Teacher(pipeline, device)

    @property
    def pixels_per_latent(self) -> int:
        """The autoencoder's factor, 8 for every family."""
        return int(2 ** (len(self.pipeline.vae.config.block_out_channels) - 1))

    @property
    def train_size_px(self) -> int:
        """The side of the square that the UNet was trained on."""
        return int(self.pipeline.unet.config.sample_size) * self.pixels_per_latent

    @torch.no_grad()
    def batch(self, images: Tensor, captions: list[str], ids: Tensor, draw: torch.Generator) -> Batch:
        """Noises images to random timesteps.

        images: (batch, 3, height, width) float32 in [-1, 1]
        ids:    (batch, 6) SD-XL's original size, crop and size in pixels
        draw:   a generator on the CPU: the same numbers on every device
        """
        latents = self._encode(images.to(self.device), draw)
        count, scheduler = len(latents), self.pipeline.scheduler
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (count,), generator=draw).to(self.device)
        noise = torch.randn(latents.shape, generator=draw).to(self.device)
        signal, amount = self._levels(timesteps)
        noisy = signal * latents + amount * noise
        kind = scheduler.config.prediction_type
        if kind not in ("epsilon", "v_prediction"):
            raise WeightsError(f'the teacher predicts "{kind}"; linfusion distills "epsilon" and "v_prediction"')
        target = noise if kind == "epsilon" else signal * noise - amount * latents  # arXiv 2202.00512, eq. 11
        embeddings, pooled = self._read(captions)
        added = {} if pooled is None else {"text_embeds": pooled, "time_ids": ids.to(self.device, embeddings.dtype)}
        return Batch(noisy, target, timesteps, embeddings, added)

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Share of image and of noise at each timestep, (batch, 1, 1, 1)."""
        alphas = self.pipeline.scheduler.alphas_cumprod.to(self.device)[timesteps].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def _encode(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Latents, always through a float32 autoencoder: in float16 SD-XL's overflows, and the loss with it."""
        vae = self.pipeline.vae
        with torch.autocast(self.device.type, enabled=False):
            posterior = vae.encode(images.float()).latent_dist
        latents = posterior.mean + posterior.std * torch.randn(posterior.mean.shape, generator=draw).to(self.device)
        result: Tensor = (latents - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
        return result

    def _read(self, captions: list[str]) -> tuple[Tensor, Tensor | None]:
        """Text embeddings (batch, tokens, dim), and for SD-XL pooled ones (batch, dim)."""
        encoded = self.pipeline.encode_prompt(
            captions, device=self.device, num_images_per_prompt=1, do_classifier_free_guidance=False
        )
        return encoded[0], encoded[2] if len(encoded) == 4 else None
