"""Turns (latents, timestep) into a noise prediction, with guidance inside."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor

from linfusion_cli.engine.compat_diffusers import TOLD_GUIDANCE
from linfusion_cli.engine.distributed.guidance_split import GuidanceSplit
from linfusion_cli.engine.loading.safetensors_loader import memory_format
from linfusion_cli.engine.sampling.band_guidance import Guidance
from linfusion_cli.engine.sampling.guidance_embedding import guidance_embedding
from linfusion_cli.engine.streaming.residuals import Residuals, combined
from linfusion_cli.geometry import Size
from linfusion_cli.planning.render_plan import SamplerSettings
from linfusion_cli.planning.unet_cost import BATCHED_LATENTS


@dataclass(frozen=True, slots=True)
class Conditioning:
    """The encoded prompt and negative prompt.

    embeddings, negative_embeddings: (1, tokens, dim)
    pooled, negative_pooled: (1, dim) for SD-XL, empty (1, 0) for the others
    images, negative_images: (1, images, ...) of an IP-Adapter's images, empty (1, 0) without
    """

    embeddings: Tensor
    negative_embeddings: Tensor
    pooled: Tensor
    negative_pooled: Tensor
    images: Tensor = field(default_factory=lambda: torch.zeros(1, 0))
    negative_images: Tensor = field(default_factory=lambda: torch.zeros(1, 0))

    @property
    def halves(self) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """(embeddings, pooled, images) of the prompt, and of the negative prompt."""
        return (self.embeddings, self.pooled, self.images), (
            self.negative_embeddings,
            self.negative_pooled,
            self.negative_images,
        )


class Predict(Protocol):
    """A UNet: PlainUNet or BandedUNet."""

    def __call__(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        dilation: int = 1,
        residuals: Residuals | None = None,
    ) -> Tensor: ...


def beside(timestep: Tensor, sample: Tensor) -> Tensor:
    """A timestep in RAM as a tensor () on the sample's device, which is told the number and copies nothing.

    A few schedulers have timesteps in float64, which Apple's GPUs lack; every UNet rounds them to float32 first.
    """
    dtype = torch.float32 if timestep.dtype == torch.float64 else timestep.dtype
    return torch.full((), timestep.item(), dtype=dtype, device=sample.device)


@dataclass(frozen=True, slots=True)
class Control:
    """A ControlNet (whole or in bands) with its embedded image. It acts at `timesteps`, multiplied by `scale`.

    prompt_only: it acts on the prompt and not on the negative prompt (ControlNet shuffle, as diffusers runs it)
    """

    net: Any
    condition: Any
    scale: float
    timesteps: frozenset[float]
    prompt_only: bool = False

    def residuals(
        self,
        sample: Tensor,
        timestep: Tensor,
        text: Tensor,
        added: dict[str, Any] | None,
        dilation: int,
        negatives: int,
    ) -> Residuals | None:
        """What it adds at this timestep, None for nothing. negatives: how many of the batch, the first, are negative.

        The others: see PlainUNet.
        """
        first = negatives if self.prompt_only else 0
        if float(timestep) not in self.timesteps or first == len(sample):
            return None
        inputs = {name: values[first:] for name, values in (added or {}).items()}
        found: Residuals = self.net(
            sample[first:],
            beside(timestep, sample),
            text[first:],
            inputs or None,
            self.condition,
            self.scale,
            dilation,
        )
        return found.after_zeros(first)


@dataclass(frozen=True, slots=True)
class Denoiser:
    """A UNet (whole or in bands) with its text and its ControlNets.

    sampler: with the interval of guidance, which acts where low <= t / train_timesteps <= high (arXiv 2404.07724)
    guidance: how the predictions without and with the prompt are joined there
    conditioned_size: the image size in pixels that SD-XL is told
    guidance_dim: how many numbers tell the UNet the scale; with 0 it is not told, and a second prediction guides it
    split: computes the two predictions on two halves of the ranks
    """

    unet: Predict
    conditioning: Conditioning
    sampler: SamplerSettings
    guidance: Guidance
    train_timesteps: int
    conditioned_size: Size
    controls: tuple[Control, ...] = ()
    guidance_dim: int = 0
    split: GuidanceSplit | None = None

    def guided(self, timestep: float) -> bool:
        """Whether guidance acts at this timestep (0 to train_timesteps)."""
        low, high = self.sampler.guidance_interval
        return not self.guidance_dim and self.guidance.acts and low <= timestep / self.train_timesteps <= high

    @torch.inference_mode()
    def __call__(self, latents: Tensor, timestep: Tensor, dilation: int = 1) -> Tensor:
        """The noise prediction, float32 and of the shape of latents (1, channels, height, width).

        timestep: of one number, in RAM: asking a device for it would wait for all that the device has still to do
        `dilation` dilates every convolution of this pass (the upscale's global branch).
        """
        positive, negative = self.conditioning.halves
        if not self.guided(float(timestep)):
            whole = partial(self._predict, latents, timestep, dilation, 0, *positive)
            return whole() if self.split is None else self.split.first(whole, latents)
        if self.split is not None:
            without, with_text = self.split.both(
                partial(self._predict, latents, timestep, dilation, 1, *negative),
                partial(self._predict, latents, timestep, dilation, 0, *positive),
            )
        elif latents.shape[-1] * latents.shape[-2] <= BATCHED_LATENTS:
            joined = [torch.cat(pair) for pair in zip(negative, positive, strict=True)]
            without, with_text = self._predict(torch.cat([latents] * 2), timestep, dilation, 1, *joined).chunk(2)
        else:
            without = self._predict(latents, timestep, dilation, 1, *negative)
            with_text = self._predict(latents, timestep, dilation, 0, *positive)
        return self.guidance(without, with_text)

    def _predict(
        self,
        latents: Tensor,
        timestep: Tensor,
        dilation: int,
        negatives: int,
        embeddings: Tensor,
        pooled: Tensor,
        images: Tensor,
    ) -> Tensor:
        """negatives: how many samples of the batch, the first, read the negative prompt."""
        sample = latents.to(dtype=embeddings.dtype, memory_format=memory_format(latents.device.type))
        added = self._added(pooled, sample)
        arguments = (sample, timestep, embeddings, added or None, dilation, negatives)
        found = [control.residuals(*arguments) for control in self.controls]
        residuals = combined([one for one in found if one is not None])
        if images.shape[-1]:
            added = {**added, "image_embeds": [images]}
        if self.guidance_dim:
            told = guidance_embedding(self.sampler.guidance_scale, self.guidance_dim).to(sample)
            added = {**added, TOLD_GUIDANCE: told.expand(len(sample), -1)}
        when = beside(timestep, sample)
        return self.unet(sample, when, embeddings, added or None, dilation, residuals).float()

    def _added(self, pooled: Tensor, like: Tensor) -> dict[str, Any]:
        """SD-XL's pooled text and the size of the image, original and target, with no crop; {} for other families."""
        if not pooled.shape[-1]:
            return {}
        size = self.conditioned_size
        sizes = [[size.height, size.width, 0, 0, size.height, size.width]]
        ids = torch.tensor(sizes, dtype=like.dtype, device=like.device)
        return {"text_embeds": pooled, "time_ids": ids.expand(len(pooled), -1)}
