"""Tiny random LoRAs, ControlNets and IP-Adapters for the models of families.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import ControlNetModel
from safetensors.torch import save_file
from torch import Tensor
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection


def lora_layers(model: Any) -> dict[str, Any]:
    """The layers that LoRAs change: attentions of UNet and text encoder, feed-forwards, and one convolution."""
    ends = (
        "to_q",
        "to_k",
        "to_v",
        "to_out.0",
        "q_proj",
        "k_proj",
        "v_proj",
        "out_proj",
        "fc1",
        "fc2",
        "ff.net.2",
        "resnets.0.conv1",
    )
    return {name: module for name, module in model.named_modules() if name.endswith(ends)}


def lora_factors(module: Any, rank: int = 2) -> tuple[Tensor, Tensor]:
    weight = module.weight
    if weight.ndim == 4:
        return torch.randn(rank, weight.shape[1], 3, 3) * 0.3, torch.randn(weight.shape[0], rank, 1, 1) * 0.3
    return torch.randn(rank, weight.shape[1]) * 0.4, torch.randn(weight.shape[0], rank) * 0.4


def save_loras(pipeline: Any, folder: Path) -> tuple[Path, Path]:
    """The same LoRA in kohya's layout (with an alpha of the rank) and in that of diffusers."""
    torch.manual_seed(5)
    kohya: dict[str, Tensor] = {}
    theirs: dict[str, Tensor] = {}
    two = hasattr(pipeline, "text_encoder_2")
    for part, prefix in (
        ("unet", "lora_unet"),
        ("text_encoder", "lora_te1" if two else "lora_te"),
        ("text_encoder_2", "lora_te2"),
    ):
        for name, module in lora_layers(getattr(pipeline, part)).items() if hasattr(pipeline, part) else ():
            down, up = lora_factors(module)
            inside = name if part == "unet" else f"text_model.{name.removeprefix('text_model.')}"
            stem = f"{prefix}_{inside.replace('.', '_')}"
            kohya |= {
                f"{stem}.lora_down.weight": down,
                f"{stem}.lora_up.weight": up,
                f"{stem}.alpha": torch.tensor(2.0),
            }
            theirs |= {f"{part}.{inside}.lora_A.weight": down, f"{part}.{inside}.lora_B.weight": up}
    save_file(kohya, folder / "kohya.safetensors")
    save_file({name: value.clone() for name, value in theirs.items()}, folder / "diffusers.safetensors")
    return folder / "kohya.safetensors", folder / "diffusers.safetensors"


def save_controlnet(pipeline: Any, folder: Path, embedding: tuple[int, ...] = (4, 8, 8, 8)) -> Path:
    torch.manual_seed(6)
    net = ControlNetModel.from_unet(pipeline.unet, conditioning_embedding_out_channels=embedding)
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.startswith(("controlnet_down", "controlnet_mid", "controlnet_cond")):
                torch.nn.init.normal_(parameter, std=0.3)
    net.save_pretrained(folder)
    return folder


def save_ip_adapter(pipeline: Any, folder: Path) -> Path:
    """An IP-Adapter with its image encoder, as in the official repository."""
    torch.manual_seed(7)
    sizes: dict[str, int] = {
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    encoder = CLIPVisionModelWithProjection(CLIPVisionConfig(image_size=32, patch_size=8, projection_dim=12, **sizes))
    encoder.save_pretrained(folder / "image_encoder")
    width = pipeline.unet.config.cross_attention_dim
    tensors = {
        "image_proj.proj.weight": torch.randn(4 * width, 12) * 0.5,
        "image_proj.proj.bias": torch.randn(4 * width),
    }
    tensors |= {"image_proj.norm.weight": torch.ones(width), "image_proj.norm.bias": torch.zeros(width)}
    number = 1
    for name in pipeline.unet.attn_processors:
        if name.endswith("attn2.processor"):
            module = pipeline.unet.get_submodule(name.removesuffix(".processor"))
            for part in ("to_k_ip", "to_v_ip"):
                tensors[f"ip_adapter.{number}.{part}.weight"] = torch.randn(module.to_k.out_features, width) * 0.3
            number += 2
    save_file(tensors, folder / "ip-adapter.safetensors")
    return folder
