"""Reads the tensors that the official code made, and builds the models that they came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors import safe_open
from torch import Tensor


def load_golden(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata, the latter decoded from JSON."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, {key: json.loads(value) for key, value in file.metadata().items()}


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors under a prefix, without it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def golden_unet(tensors: dict[str, Tensor], config: dict[str, Any]) -> UNet2DConditionModel:
    unet = UNet2DConditionModel(**config["unet_config"]).eval()
    unet.load_state_dict(part(tensors, "unet."))
    return unet


def golden_vae(tensors: dict[str, Tensor], config: dict[str, Any]) -> AutoencoderKL:
    vae = AutoencoderKL(**config["vae_config"]).eval()
    vae.load_state_dict(part(tensors, "vae."))
    return vae
