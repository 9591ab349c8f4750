"""All weights that a job names, each found once: the plan's checks, shapes, costs and the engine read these."""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.config.extras import inversion
from linfusion_cli.config.job import Job
from linfusion_cli.config.weighted_lora import WeightedLora
from linfusion_cli.weights.weight_file import WeightFile, image_encoder_of


@dataclass(frozen=True, slots=True, kw_only=True)
class JobWeights:
    """The weights of one job; None is none, and WeightFile.path is None for what is not on this machine.

    unet: the one that is used in place of the model's
    vae, vae_float16: the autoencoder for every number format, and the one for float16 alone
    ip_encoder: the image encoder that fits the IP-Adapter; None too where that is not beside it
    """

    model: WeightFile
    unet: WeightFile | None
    linfusion: WeightFile | None
    vae: WeightFile | None
    vae_float16: WeightFile | None
    named_loras: tuple[tuple[WeightedLora, WeightFile], ...]
    inversions: tuple[WeightFile, ...]
    controlnets: tuple[WeightFile, ...]
    ip_adapter: WeightFile | None
    ip_encoder: WeightFile | None

    @property
    def loras(self) -> tuple[WeightFile, ...]:
        """The files of the LoRAs, the model's own first."""
        return tuple(file for _, file in self.named_loras)

    @property
    def text_dim(self) -> int:
        """The width of the text that the UNet reads; 0 if it has no weights on this machine."""
        other = self.unet.text_dim if self.unet is not None else 0
        return other or self.model.text_dim

    @property
    def replaced(self) -> frozenset[str]:
        """The parts of the model that others are used for, whether these are on this machine or not."""
        return frozenset(part for part, other in (("unet", self.unet), ("vae", self.vae)) if other is not None)

    @staticmethod
    def of(job: Job) -> JobWeights:
        """Looks for them. Raises WeightsError for pickles, damaged files, and an image encoder of another width."""
        model, extras = job.settings.model, job.settings.extras

        def one(location: str, parameter: str, variant: str = "") -> WeightFile:
            return WeightFile.resolve((location,), "", parameter, model.family, variant)

        adapter = one(extras.ip_adapter, "ip_adapter") if extras.ip_adapter else None
        return JobWeights(
            model=WeightFile.resolve(model.repositories, model.revision, "model", model.family, model.variant),
            unet=one(model.unet, "unet", model.variant) if model.unet else None,
            linfusion=WeightFile.resolve(model.linfusion, "", "linfusion") if model.linfusion else None,
            vae=one(model.vae, "vae", model.variant) if model.vae else None,
            vae_float16=one(model.vae_float16, "vae", model.variant) if model.vae_float16 else None,
            named_loras=tuple(
                (lora, one(lora.location, "lora")) for lora in map(WeightedLora.parse, job.settings.loras)
            ),
            inversions=tuple(one(inversion(text)[0], "textual_inversion") for text in extras.textual_inversions),
            controlnets=tuple(one(location, "controlnet") for location in extras.controlnets),
            ip_adapter=adapter,
            ip_encoder=image_encoder_of(adapter, extras.ip_encoder) if adapter is not None else None,
        )
