"""The teacher: a pipeline of the layout of SD-v1.5, v2.1 or XL, which also encodes and noises the training images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline, StableDiffusionXLPipeline, UNet2DConditionModel
from diffusers.utils.logging import disable_progress_bar
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from linfusion_cli.distill.loss import Batch
from linfusion_cli.engine.attention.linfusion import self_attentions
from linfusion_cli.errors import WeightsError, nearest
from linfusion_cli.weights.pipeline_settings import INDEX, read_json_object, read_pipeline_settings
from linfusion_cli.weights.weight_file import WeightFile, headers_in

LAYOUTS = {"StableDiffusionPipeline": StableDiffusionPipeline, "StableDiffusionXLPipeline": StableDiffusionXLPipeline}
NETWORKS = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
XL_NETWORKS = {**NETWORKS, "text_encoder_2": CLIPTextModelWithProjection}
UNUSED = ("position_ids",)  # endings of tensors that older transformers wrote, and that no network reads
NO_CHECKER = {"safety_checker": None, "requires_safety_checker": False, "feature_extractor": None}
PREDICTIONS = ("epsilon", "v_prediction")


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen diffusers pipeline in float32 on one device; its UNet predicts noise or velocity."""

    pipeline: Any
    device: torch.device

    @staticmethod
    def load(location: str, device: torch.device) -> Teacher:
        """Loads a built-in model, a folder, or a hub repository that is in the cache; it downloads nothing.

        Raises WeightsError if it is not on this machine, lacks a tensor or has an unknown one, or if it is of another
        layout, predicts something else, or has no self-attention.
        """
        disable_progress_bar()
        model = WeightFile.resolve((location,), "", "model")
        folder = model.open()
        name = read_json_object(folder / INDEX).get("_class_name")
        if not isinstance(name, str) or name not in LAYOUTS:
            raise WeightsError(
                f'{location}: the layout "{name}" is unknown to linfusion. {nearest(str(name), LAYOUTS)}'
            )
        read_pipeline_settings(folder)  # refuses components of other classes
        kinds, options = (XL_NETWORKS, {}) if "XL" in name else (NETWORKS, NO_CHECKER)
        for part in kinds:
            headers_in(model.headers, folder / part)  # says what is missing
        networks = {part: _network(kind, folder / part) for part, kind in kinds.items()}
        try:
            pipeline = LAYOUTS[name].from_pretrained(folder, local_files_only=True, **networks, **options)
        except (OSError, ValueError) as error:
            raise WeightsError(f"{location}: not a complete {name} ({error})") from error
        if (kind := pipeline.scheduler.config.prediction_type) not in PREDICTIONS:
            raise WeightsError(f'{location}: predicts "{kind}"; linfusion distills {" and ".join(PREDICTIONS)}')
        if not self_attentions(pipeline.unet):
            raise WeightsError(f"{location}: its UNet has no self-attention to replace")
        pipeline.to(device)
        for network in networks.values():
            network.eval().requires_grad_(False)
        return Teacher(pipeline, device)

    @property
    def pixels_per_latent(self) -> int:
        """Pixels per latent pixel along a side, by the autoencoder's levels; 8 for the published models."""
        return int(2 ** (len(self.pipeline.vae.config.block_out_channels) - 1))

    @property
    def train_size_px(self) -> int:
        """The side in pixels of the square that the UNet was trained on, by its config's sample_size."""
        return int(self.pipeline.unet.config.sample_size) * self.pixels_per_latent

    @torch.no_grad()
    def batch(self, images: Tensor, captions: list[str], ids: Tensor, draw: torch.Generator) -> Batch:
        """Encodes images and captions, and noises the latents to random timesteps.

        images:   (batch, 3, height, width) float32 in [-1, 1], sides divisible by pixels_per_latent
        captions: one per image
        ids:      (batch, 6), the size conditioning of SD-XL in pixels (see batches.to_square); the others ignore it
        draw:     a generator on the CPU, so that every device gets the same noise
        """
        latents = self._encode(images.to(self.device), draw)
        count, scheduler = len(latents), self.pipeline.scheduler
        timesteps = torch.randint(scheduler.config.num_train_timesteps, (count,), generator=draw).to(self.device)
        noise = torch.randn(latents.shape, generator=draw).to(self.device)
        signal, amount = self._levels(timesteps)
        noisy = signal * latents + amount * noise  # arXiv 2006.11239
        of_noise = scheduler.config.prediction_type == "epsilon"
        target = noise if of_noise else signal * noise - amount * latents  # v of arXiv 2202.00512
        embeddings, pooled = self._read(captions)
        added = {} if pooled is None else {"text_embeds": pooled, "time_ids": ids.to(self.device, embeddings.dtype)}
        return Batch(noisy, target, timesteps, embeddings, added)

    def _levels(self, timesteps: Tensor) -> tuple[Tensor, Tensor]:
        """Factors of image and of noise, sqrt(alphas_cumprod) and sqrt(1 - alphas_cumprod), each (batch, 1, 1, 1)."""
        alphas = self.pipeline.scheduler.alphas_cumprod.to(self.device)[timesteps].view(-1, 1, 1, 1)
        return alphas.sqrt(), (1 - alphas).sqrt()

    def _encode(self, images: Tensor, draw: torch.Generator) -> Tensor:
        """Scaled latents (batch, channels, height, width), drawn from the autoencoder's posterior.

        Always in float32: in float16 SD-XL's autoencoder overflows, and the loss with it.
        """
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


def _network(kind: Any, folder: Path) -> Any:
    """Loads one network in float32.

    Raises WeightsError if it can't be read, and by the tensor's name if one is missing or unknown to its config.
    """
    try:
        network, told = kind.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise WeightsError(f"{folder}: can't be loaded ({error})") from error
    for what, key in (("lacks", "missing_keys"), ("has the unknown tensor", "unexpected_keys")):
        if names := sorted(name for name in told[key] if not name.endswith(UNUSED)):
            raise WeightsError(f"{folder}: {what} {names[0]}: another architecture than its config, or a damaged file")
    return network
