"""The table of model families: a new one is a row here, its configs in models/families/ and a preset."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LatentToRgb:
    """How latents (scaled, as the UNet reads them) look: colours in [-1, 1] are factors' x latents + bias.

    factors: red, green and blue of each of the four channels; bias: of the three colours
    """

    factors: tuple[tuple[float, float, float], ...]
    bias: tuple[float, float, float] = (0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """How many a family's own models have: of the UNet, its LinFusion, a ControlNet for it, and all text encoders."""

    unet: int
    linear_attention: int
    controlnet: int
    text_encoders: int
    vae: int = 83_653_863  # of every Stable Diffusion


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """What differs between families beside their configs, which are in models/families/.

    full_name: for messages
    text_dim: the width of the text that the UNet reads
    parameters: for plans, where the weights are not on this machine
    preset: the one to use where only a model is named
    marks: endings of tensors that UNets and ControlNets of this family alone have
    linear_projection: where no family's marks are there: tokens are projected by a linear layer, not a 1x1 convolution
    f_divisor: the width of f in its linear attention is the channels divided by it
    two_text_encoders: it reads the prompt with two, is told the image's size, and may have a negative prompt of zeros
    old_configs: its configs may lack steps_offset, which is 1
    vae: the usual autoencoder, for checkpoints that hold none
    ip_adapter: the plain adapter of the repository h94/IP-Adapter, "" for none
    t2i_adapters: T2I-Adapters are published for it
    colors: of its latents, for previews
    """

    full_name: str
    text_dim: int
    parameters: Parameters
    preset: str
    vae: str
    colors: LatentToRgb
    marks: tuple[str, ...] = ()
    linear_projection: bool = False
    f_divisor: int = 1
    two_text_encoders: bool = False
    old_configs: bool = False
    ip_adapter: str = ""
    t2i_adapters: bool = False


# Tuned on the decoder alone: its latents are those of every 1.x and 2.x model.
SD_VAE = "stabilityai/sd-vae-ft-mse"
# The fit of keturn and torridgristle for SD-v1.5 (discuss.huggingface.co/t/23204), that of StAlKeR7779 for SD-XL: both
# as in InvokeAI (Apache-2.0). SD 2.x has the latents of 1.x: only the decoder was trained further.
_SD_COLORS = LatentToRgb(
    ((0.3444, 0.1385, 0.0670), (0.1247, 0.4027, 0.1494), (-0.3192, 0.2513, 0.2103), (-0.1307, -0.1874, -0.7445))
)
_SDXL_COLORS = LatentToRgb(
    ((0.3816, 0.4930, 0.5320), (-0.3753, 0.1631, 0.1739), (0.1770, 0.3588, -0.2048), (-0.4350, -0.2644, -0.4289))
)
# Least squares over 96 scenes of 256x256, encoded, against their means of 8x8 pixels: 0.047 of [0, 1] off on others.
BUILTIN_COLORS = LatentToRgb(
    ((0.0276, 0.3772, 0.2369), (0.7031, 0.5820, 0.4643), (0.0869, 0.1381, -0.2097), (0.1245, 0.2927, 0.3918)),
    (0.0216, -0.0649, 0.0226),
)
BUILTIN_FAMILY = "sd15"  # of the built-in model
FAMILY_ROWS = {
    "sd15": FamilyRow(
        full_name="Stable Diffusion 1.x",
        text_dim=768,
        parameters=Parameters(
            unet=859_520_964, linear_attention=99_219_200, controlnet=361_279_120, text_encoders=123_060_480
        ),
        preset="sd15-4k",
        vae=SD_VAE,
        colors=_SD_COLORS,
        old_configs=True,
        ip_adapter="models/ip-adapter_sd15.safetensors",
        t2i_adapters=True,
    ),
    "sd21": FamilyRow(
        full_name="Stable Diffusion 2.x",
        text_dim=1024,
        parameters=Parameters(
            unet=865_910_724, linear_attention=99_219_200, controlnet=364_228_240, text_encoders=340_387_840
        ),
        linear_projection=True,
        preset="sd21-4k",
        vae=SD_VAE,
        colors=_SD_COLORS,
        old_configs=True,
    ),
    "sdxl": FamilyRow(
        full_name="Stable Diffusion XL",
        text_dim=2048,
        parameters=Parameters(
            unet=2_567_463_684, linear_attention=435_500_000, controlnet=1_251_014_160, text_encoders=817_700_000
        ),
        marks=("add_embedding.linear_1.weight", "label_emb.0.0.weight"),  # of the image's size
        linear_projection=True,
        f_divisor=16,
        preset="sdxl-4k",
        vae="madebyollin/sdxl-vae-fp16-fix",  # the model's own, tuned not to overflow in float16
        colors=_SDXL_COLORS,
        two_text_encoders=True,
        ip_adapter="sdxl_models/ip-adapter_sdxl.safetensors",
        t2i_adapters=True,
    ),
}
