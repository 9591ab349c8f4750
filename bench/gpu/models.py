"""SD-XL and SD-v1.5 with random weights, made on the device from the families' configs: nothing is downloaded.

They take the place of the model cache, so the real engine makes an image of a real plan; what comes out is noise.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import save_file
from torch import nn

from linfusion_cli.engine.adapters.adapter_stack import Mounted
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.components.unet_and_vae import Components, fuse
from linfusion_cli.engine.memory.dtypes import DTYPES
from linfusion_cli.engine.sampling.denoiser import Conditioning
from linfusion_cli.events import Notify
from linfusion_cli.models import family_folder
from linfusion_cli.planning.render_plan import RenderPlan

MID_DIM_SCALES = {"sd15": 1, "sdxl": 16}  # of the official LinFusion files
TOKENS, POOLED = 77, 1280
WEIGHTS = "diffusion_pytorch_model.safetensors"
TINY_UNET = {
    "sd15": {"block_out_channels": [16, 24, 32, 32], "cross_attention_dim": 16, "attention_head_dim": 2},
    "sdxl": {
        "block_out_channels": [16, 24, 32],
        "cross_attention_dim": 16,
        "attention_head_dim": [2, 3, 4],
        "transformer_layers_per_block": [1, 1, 2],
        "addition_time_embed_dim": 8,
        "projection_class_embeddings_input_dim": 64,
    },
}
TINY_VAE = {"block_out_channels": [8, 8, 8, 8], "layers_per_block": 1, "norm_num_groups": 4}
TINY_POOLED = 64 - 6 * 8
TINY_PRESET = """
extends = "{family}-16k"
[model]
repositories = ["{folder}"]
linfusion = ["{folder}/linfusion"]
vae_float16 = ""
train_size_px = 64
"""


def config_of(folder: Path, part: str) -> dict[str, Any]:
    """The config of a part ("unet", "vae"), without diffusers' own notes."""
    read = json.loads((folder / part / "config.json").read_text())
    return {key: value for key, value in read.items() if not key.startswith("_")}


def on_device(make: Callable[[], Any], device: str, dtype: torch.dtype, seed: int) -> Any:
    """A network made without memory, then filled on the device ("meta": left empty) with random numbers."""
    with torch.device("meta"):
        model = make().to(dtype).eval()
    if device == "meta":
        return model.requires_grad_(False)
    model.to_empty(device=device)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            for name, values in module.named_parameters(recurse=False):
                _fill(module, name, values, generator)
    return model.requires_grad_(False)


def _fill(module: Any, name: str, values: torch.Tensor, generator: torch.Generator) -> None:
    """Norms pass on what they get; other weights keep the size of their input."""
    if isinstance(module, nn.GroupNorm | nn.LayerNorm):
        values.fill_(1.0 if name == "weight" else 0.0)
    elif values.ndim > 1:
        values.normal_(std=values[0].numel() ** -0.5, generator=generator)
    else:
        values.zero_()


def make_networks(folder: Path, family: str, device: str, dtype: torch.dtype) -> tuple[Any, LinFusion, Any]:
    """The UNet, its linear attentions and the autoencoder of the configs in `folder`."""
    with torch.device("meta"):
        shapes = UNet2DConditionModel.from_config(config_of(folder, "unet"))
        linfusion = LinFusion.like(shapes, MID_DIM_SCALES[family])
    unet = on_device(lambda: UNet2DConditionModel.from_config(config_of(folder, "unet")), device, dtype, 1)
    attentions = linfusion.attentions
    linfusion.attentions = on_device(lambda: attentions, device, dtype, 2)
    vae = on_device(lambda: AutoencoderKL.from_config(config_of(folder, "vae")), device, dtype, 3)
    return unet, linfusion, vae


@dataclass(slots=True)
class RandomModels:
    """In place of ModelCache: random components that lie in RAM as loaded ones do, and a random prompt.

    device: where the random numbers are made; folder: of the configs
    """

    family: str
    folder: Path
    device: str
    pooled: int = POOLED
    _kept: dict[str, tuple[Any, LinFusion, Any]] = field(default_factory=dict)

    def networks(self, dtype: str) -> tuple[Any, LinFusion, Any]:
        """UNet, linear attentions and autoencoder in RAM. Nothing is on the device afterwards."""
        if dtype not in self._kept:
            made = make_networks(self.folder, self.family, self.device, DTYPES[dtype])
            self._kept[dtype] = made
            self._to_ram(dtype)
        return self._kept[dtype]

    def _to_ram(self, dtype: str) -> None:
        unet, linfusion, vae = self._kept[dtype]
        for module in (unet, linfusion.attentions, vae):
            module.to("cpu")
        if self.device != "cpu":
            torch.cuda.empty_cache()

    def take(self, plan: RenderPlan, notify: Notify) -> tuple[Conditioning, Components]:
        """As ModelCache.take()."""
        unet, linfusion, vae = self.networks(plan.dtype)
        config = json.loads((self.folder / "scheduler" / "scheduler_config.json").read_text())
        mounted = Mounted(unet, linfusion)
        fused = fuse(plan, linfusion, vae, notify)
        return self.conditioning(plan), Components(mounted, vae, config, fused=fused)

    def give_back(self, plan: RenderPlan) -> None:
        """Unmounts the linear attention and moves everything back to RAM, for the next plan."""
        unet, linfusion, _ = self._kept[plan.dtype]
        linfusion.unmount(unet)
        self._to_ram(plan.dtype)

    def conditioning(self, plan: RenderPlan) -> Conditioning:
        """Unit noise in place of an encoded prompt, the same each time."""
        generator = torch.Generator().manual_seed(5)
        width = int(config_of(self.folder, "unet")["cross_attention_dim"])
        pooled = self.pooled if self.family == "sdxl" else 0
        dtype = DTYPES[plan.dtype]

        def noise(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(plan.machine.device, dtype)

        return Conditioning(noise(1, TOKENS, width), noise(1, TOKENS, width), noise(1, pooled), noise(1, pooled))


def full_models(family: str, device: str) -> tuple[RandomModels, dict[str, str]]:
    """The family at its full size, and the preset for each use: the names that its plans extend."""
    return RandomModels(family, family_folder(family), device), {"4k": f"{family}-4k", "16k": f"{family}-16k"}


def tiny_models(family: str, device: str, scratch: Path) -> tuple[RandomModels, dict[str, str]]:
    """A tiny network of the family's layout, with files on the disk, so that a plan counts its real bytes."""
    folder = scratch / f"tiny-{family}"
    if not folder.exists():
        _write_tiny(folder, family)
    preset = str(folder / "tiny.toml")
    return RandomModels(family, folder, device, TINY_POOLED), {"4k": preset, "16k": preset}


def _write_tiny(folder: Path, family: str) -> None:
    shapes = family_folder(family)
    changes: dict[str, dict[str, Any]] = {"unet": {"norm_num_groups": 8, **TINY_UNET[family]}, "vae": TINY_VAE}
    for part, changed in changes.items():
        (folder / part).mkdir(parents=True)
        (folder / part / "config.json").write_text(json.dumps({**config_of(shapes, part), **changed}))
    (folder / "scheduler").mkdir()
    scheduler = (shapes / "scheduler" / "scheduler_config.json").read_text()
    (folder / "scheduler" / "scheduler_config.json").write_text(scheduler)
    (folder / "model_index.json").write_text((shapes / "model_index.json").read_text())
    unet, linfusion, vae = make_networks(folder, family, "cpu", torch.float32)
    for part, model in (("unet", unet), ("vae", vae)):
        save_file(dict(model.state_dict()), folder / part / WEIGHTS)
    linfusion.save(folder / "linfusion")
    (folder / "tiny.toml").write_text(TINY_PRESET.format(family=family, folder=folder))
