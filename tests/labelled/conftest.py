"""Labelled tensors need a build of torch for CUDA: `make test-labelled` installs one; no card is needed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel

from bench.gpu import models
from bench.gpu.models import config_of
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.models import builtin_folder, family_folder

MID_DIM_SCALES = {"builtin": 1, "sd15": 1, "sd21": 1, "sdxl": 16}
Networks = tuple[Any, LinFusion, Any]


def labelled_networks(folder: Any, family: str, device: str, dtype: torch.dtype) -> Networks:
    """UNet, linear attentions and autoencoder of a family at its full size, in RAM: for make_networks of the bench."""
    del device
    unet = UNet2DConditionModel.from_config(config_of(folder, "unet"))
    linfusion, vae = LinFusion.like(unet, MID_DIM_SCALES[family]), AutoencoderKL.from_config(config_of(folder, "vae"))
    for model in (unet, linfusion.attentions, vae):
        model.to(dtype).eval().requires_grad_(False)
    return unet, linfusion, vae


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, torch.dtype], Networks]:
    """Makes a family's networks; to be called with labels on. The bench's random models are made so too."""
    monkeypatch.setattr(models, "make_networks", labelled_networks)

    def networks(family: str, dtype: torch.dtype) -> Networks:
        folder = builtin_folder("builtin:landscape") if family == "builtin" else family_folder(family)
        return labelled_networks(folder, family, "cpu", dtype)

    return networks
