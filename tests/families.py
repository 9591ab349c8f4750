"""Tiny random models of the three families in every supported layout; the single file by original_layout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from original_layout import save_single_file
from safetensors.torch import load_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.engine.loading.clip_tokenizer import clip_tokenizer
from linfusion_cli.models import family_folder

FAMILIES = ("sd15", "sd21", "sdxl")
MERGES = 3000  # of the 48894 of CLIP's tokenizers, which take longer to read than a tiny model takes to run
PRESET = """
[model]
family = "{family}"
repositories = ["{model}"]
linfusion = ["{linfusion}"]
configs = "{configs}"
train_size_px = 64

[sampling]
steps = 4
guidance_scale = 3.0
guidance_interval = [0.0, 1.0]

[upscale]
strength = 0.5
"""


@dataclass(frozen=True)
class Family:
    """The files of one tiny family."""

    name: str
    folder: Path  # diffusers layout
    file: Path  # one file in the original layout
    linfusion: Path
    presets: Path

    def preset(self, *, file: bool = False, extra: str = "") -> str:
        """The path of a preset that uses the folder or the single file; `extra` is TOML that is added."""
        model = self.file if file else self.folder
        text = PRESET.format(family=self.name, model=model, linfusion=self.linfusion, configs=self.folder) + extra
        path = self.presets / f"{self.name}-{'file' if file else 'folder'}-{abs(hash(extra)) % 10**8}.toml"
        path.write_text(text)
        return str(path)


def make_family(name: str, root: Path) -> Family:
    """Builds and saves everything."""
    torch.manual_seed(FAMILIES.index(name))
    root.mkdir(parents=True)
    pipeline = tiny_pipeline(name)
    pipeline.save_pretrained(root / "model", safe_serialization=True)
    save_single_file(pipeline, root / "model.safetensors")
    linfusion = LinFusion.like(pipeline.unet, 4 if name == "sdxl" else 1)
    for parameter in linfusion.attentions.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    linfusion.save(root / "linfusion")
    (root / "presets").mkdir()
    return Family(name, root / "model", root / "model.safetensors", root / "linfusion", root / "presets")


def tiny_unet(name: str) -> UNet2DConditionModel:
    first = ("DownBlock2D", "CrossAttnDownBlock2D") if name == "sdxl" else ("CrossAttnDownBlock2D", "DownBlock2D")
    last = ("CrossAttnUpBlock2D", "UpBlock2D") if name == "sdxl" else ("UpBlock2D", "CrossAttnUpBlock2D")
    more: dict[str, Any] = {"cross_attention_dim": 16, "attention_head_dim": 2}
    if name == "sd21":
        more = {"cross_attention_dim": 24, "attention_head_dim": [2, 3], "use_linear_projection": True}
    if name == "sdxl":
        more = {
            "cross_attention_dim": 40,
            "attention_head_dim": [2, 3],
            "use_linear_projection": True,
            "transformer_layers_per_block": [1, 2],
        }
        more |= {
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "projection_class_embeddings_input_dim": 72,
        }
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(16, 24),
        down_block_types=first,
        up_block_types=last,
        layers_per_block=1,
        norm_num_groups=8,
        **more,
    )
    return lively(unet)


def lively(model: Any) -> Any:
    """Scales the weights up, so that every part of a tiny network changes the output."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.mul_(1.5)
    return model.eval()


def tiny_vae() -> AutoencoderKL:
    levels: dict[str, Any] = {
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
    }
    return AutoencoderKL(
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=64,
        scaling_factor=0.5,
        force_upcast=False,
        **levels,
    )


def text_config(width: int, vocabulary: int) -> CLIPTextConfig:
    sizes = {
        "hidden_size": width,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "projection_dim": width,
    }
    return CLIPTextConfig(
        vocab_size=vocabulary, max_position_embeddings=77, bos_token_id=0, eos_token_id=2, pad_token_id=1, **sizes
    )


def small_tokenizer(folder: Path) -> CLIPTokenizer:
    """The tokenizer of a family, with the most frequent merges alone."""
    whole = clip_tokenizer(folder)
    model = json.loads(whole.backend_tokenizer.to_str())["model"]
    words = sorted(model["vocab"], key=model["vocab"].__getitem__)
    few = [*words[: 512 + MERGES], *words[-2:]]
    vocabulary = {word: number for number, word in enumerate(few)}
    merges = [tuple(pair) for pair in model["merges"][:MERGES]]
    return CLIPTokenizer(
        vocab=vocabulary, merges=merges, model_max_length=whole.model_max_length, pad_token=whole.pad_token
    )


def tiny_pipeline(name: str) -> Any:
    """A pipeline of diffusers."""
    prediction = "v_prediction" if name == "sd21" else "epsilon"
    beta: dict[str, Any] = {
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "steps_offset": 1,
    }
    scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=False, prediction_type=prediction, **beta)
    parts: dict[str, Any] = {"vae": tiny_vae().eval(), "unet": tiny_unet(name), "scheduler": scheduler}
    parts["tokenizer"] = small_tokenizer(family_folder(name) / "tokenizer")
    words = len(parts["tokenizer"])
    parts["text_encoder"] = CLIPTextModel(text_config(24 if name == "sd21" else 16, words)).eval()
    if name == "sdxl":
        parts["text_encoder_2"] = CLIPTextModelWithProjection(text_config(24, words)).eval()
        parts["tokenizer_2"] = small_tokenizer(family_folder(name) / "tokenizer_2")
        return StableDiffusionXLPipeline(**parts, add_watermarker=False)
    return StableDiffusionPipeline(**parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)


def loaded_pipeline(family: Family) -> Any:
    """The folder as plain diffusers loads it."""
    if family.name == "sdxl":
        pipeline = StableDiffusionXLPipeline.from_pretrained(family.folder, add_watermarker=False)
    else:
        pipeline = StableDiffusionPipeline.from_pretrained(family.folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def truncated(path: Path, folder: Path) -> Path:
    """A copy that lacks its last quarter."""
    copy = folder / path.name
    data = path.read_bytes()
    copy.write_bytes(data[: len(data) * 3 // 4])
    return copy


def header_of(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    return dict(json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")]))


def tensors_of(path: Path) -> dict[str, Tensor]:
    return dict(load_file(path))
