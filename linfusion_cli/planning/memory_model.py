"""What the runtime, the weights and the user's images hold, beside activations: sums, for one memory and for a card's.

On a CPU and on Apple's GPUs everything lies in one memory. Beside a card only the card's memory is counted here: what
lies in RAM there (text encoders that wait, the files of adapters, the user's images) is small against it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from linfusion_cli.images.input_image import InputImage
from linfusion_cli.planning.memory_budget import pinned_weight_bytes
from linfusion_cli.planning.model_shapes import Architecture
from linfusion_cli.system.accelerator import CUDA_RUNTIME_BYTES

BYTES_OF = {"float32": 4, "float16": 2, "bfloat16": 2}
# The interpreter with torch and diffusers, and what allocators keep beyond live tensors; measured, see docs/log.md.
RUNTIME_BYTES = {"cpu": 500e6, "cuda": CUDA_RUNTIME_BYTES, "mps": 800e6}
BESIDE_IMPORTS = 112e6  # the part of a CPU's that comes after the imports


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelBytes:
    """The bytes of a model's parts, each in its number format.

    unet:          the UNet with its linear attention and the ControlNets: what of them is on the device at a time
    vae:           the autoencoder
    adapters:      LoRAs and an IP-Adapter, mounted on the UNet
    adapter_files: what reading the adapters' files leaves in RAM
    text_encoders: those of prompts, and an IP-Adapter's image encoder
    read:          everything that is read from files
    streamed:      what goes to the device in every pass of the UNet, layer by layer
    pinned:        the page-locked RAM in which weights wait: streamed ones, and those that make way for encoders
    """

    unet: int
    vae: int
    adapters: int
    adapter_files: int
    text_encoders: int
    read: int
    streamed: int
    pinned: int

    @property
    def denoising(self) -> int:
        """What the device holds while an image is made."""
        return self.unet + self.adapters + self.vae


def model_bytes(
    architecture: Architecture, dtype: str, *, controlnets: int, resident: bool, leaving: bool = False
) -> ModelBytes:
    """resident: all weights of the UNet and the ControlNets stay on the device, else those of a block at a time.

    leaving: they leave it, with the autoencoder's, while the next prompt is encoded
    """
    unet, extras, number = architecture.unet, architecture.on_top, BYTES_OF[dtype]
    whole = unet.parameters + unet.linear_parameters + controlnets * unet.controlnet_parameters
    vae = architecture.vae.parameters * BYTES_OF[architecture.vae.dtype(dtype)]
    adapters = extras.mounted_parameters * number
    text_encoders = (architecture.text_parameters + extras.text_encoder_parameters) * number
    streamed = 0 if resident else whole * number
    leaves = (whole * number if resident else 0) + adapters + vae if leaving else 0
    return ModelBytes(
        unet=(whole if resident else unet.streamed_parameters) * number,
        vae=vae,
        adapters=adapters,
        adapter_files=extras.held_bytes,
        text_encoders=text_encoders,
        read=whole * number + adapters + vae + text_encoders,
        streamed=streamed,
        pinned=pinned_weight_bytes(streamed) + pinned_weight_bytes(leaves),
    )


def unified_runtime_bytes(kind: str, imported_bytes: int) -> float:
    """The process ("cpu" or "mps") without a model. imported_bytes: measured after the imports; 0 for not measured."""
    return max(RUNTIME_BYTES[kind], imported_bytes + BESIDE_IMPORTS)


def unified_denoising_bytes(model: ModelBytes, runtime_bytes: float, *, keep_text_encoders: bool) -> float:
    """The process while an image is made, without activations. keep_text_encoders: they wait for the next image."""
    waiting = model.text_encoders if keep_text_encoders else 0
    return runtime_bytes + model.denoising + model.adapter_files + waiting


def unified_encoding_bytes(
    model: ModelBytes, runtime_bytes: float, images: Sequence[InputImage], *, keep_text_encoders: bool
) -> float:
    """The process while the prompt, and then one of `images` after the other, is encoded.

    UNet and VAE are loaded later, unless the text encoders stay from one image to the next.
    """
    reading = max((image_bytes((image,), reading=True) for image in images), default=0)
    if keep_text_encoders:
        return unified_denoising_bytes(model, runtime_bytes, keep_text_encoders=True) + reading
    return runtime_bytes + model.text_encoders + model.adapters + model.adapter_files + reading


def image_bytes(images: Sequence[InputImage], *, reading: bool) -> int:
    """The pixels of the user's images in the process. reading: while the hungriest is decoded last."""
    decoding = max((image.reading_bytes - image.held_bytes for image in images), default=0) if reading else 0
    return sum(image.held_bytes for image in images) + decoding


def card_denoising_bytes(model: ModelBytes) -> float:
    """The card while an image is made, without activations."""
    return RUNTIME_BYTES["cuda"] + model.denoising


def card_encoding_bytes(model: ModelBytes, *, together: bool = False) -> float:
    """The card while a prompt is encoded. together: UNet and VAE are on it too, else they are moved to it later."""
    return RUNTIME_BYTES["cuda"] + model.text_encoders + (model.denoising if together else 0)
