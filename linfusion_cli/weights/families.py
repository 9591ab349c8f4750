"""The table of model families: a new one is a row here, its shapes, its configs and a preset."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyRow:
    """What differs between families beside their configs, which are in models/families/.

    full_name: for messages
    text_dim: the width of the text that the UNet reads
    preset: the one to use where only a model is named
    two_text_encoders: it reads the prompt with two, is told the image's size, and may have a negative prompt of zeros
    old_configs: its configs may lack steps_offset, which is 1
    ip_adapter: the plain adapter of the repository h94/IP-Adapter, "" for none
    """

    full_name: str
    text_dim: int
    preset: str
    two_text_encoders: bool = False
    old_configs: bool = False
    ip_adapter: str = ""


BUILTIN_FAMILY = "sd15"  # of the built-in model
FAMILY_ROWS = {
    "sd15": FamilyRow(
        full_name="Stable Diffusion 1.x",
        text_dim=768,
        preset="sd15-4k",
        old_configs=True,
        ip_adapter="models/ip-adapter_sd15.safetensors",
    ),
    "sd21": FamilyRow(full_name="Stable Diffusion 2.x", text_dim=1024, preset="sd21-4k", old_configs=True),
    "sdxl": FamilyRow(
        full_name="Stable Diffusion XL",
        text_dim=2048,
        preset="sdxl-4k",
        two_text_encoders=True,
        ip_adapter="sdxl_models/ip-adapter_sdxl.safetensors",
    ),
}
