"""Tiny random models of the three families in every supported layout; the single file by the inverse key mapping."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
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


# The original layout, from diffusers' names


def save_single_file(pipeline: Any, path: Path) -> None:
    tensors = {f"model.diffusion_model.{k}": v for k, v in ldm_unet(pipeline.unet).items()}
    tensors |= {f"first_stage_model.{k}": v for k, v in ldm_vae(pipeline.vae).items()}
    if hasattr(pipeline, "text_encoder_2"):
        tensors |= {
            f"conditioner.embedders.0.transformer.text_model.{k}": v
            for k, v in pipeline.text_encoder.state_dict().items()
        }
        tensors |= {f"conditioner.embedders.1.model.{k}": v for k, v in open_clip(pipeline.text_encoder_2).items()}
    elif pipeline.unet.config.use_linear_projection:
        tensors |= {f"cond_stage_model.model.{k}": v for k, v in open_clip(pipeline.text_encoder).items()}
    else:
        tensors |= {
            f"cond_stage_model.transformer.text_model.{k}": v for k, v in pipeline.text_encoder.state_dict().items()
        }
    save_file({name: value.contiguous().clone() for name, value in tensors.items()}, path)


def renamed(tensors: dict[str, Tensor], pairs: list[tuple[str, str]]) -> dict[str, Tensor]:
    """Every name with the first prefix of `pairs` that it starts with replaced."""
    out: dict[str, Tensor] = {}
    for name, value in tensors.items():
        old, new = next((pair for pair in pairs if name.startswith(pair[0])), ("", ""))
        assert old, name
        out[new + name.removeprefix(old)] = value
    return out


RESNET = [("norm1", "in_layers.0"), ("conv1", "in_layers.2"), ("norm2", "out_layers.0"), ("conv2", "out_layers.3")]
RESNET += [("time_emb_proj", "emb_layers.1"), ("conv_shortcut", "skip_connection")]


def resnet_pairs(old: str, new: str) -> list[tuple[str, str]]:
    return [(f"{old}.{theirs}.", f"{new}.{ours}.") for theirs, ours in RESNET]


def ldm_unet(unet: Any) -> dict[str, Tensor]:
    return renamed(unet.state_dict(), ldm_unet_pairs(unet))


def ldm_unet_pairs(unet: Any) -> list[tuple[str, str]]:
    """Prefixes of diffusers' names, and those of the original layout."""
    layers, levels = unet.config.layers_per_block, len(unet.config.block_out_channels)
    pairs = [
        ("conv_in.", "input_blocks.0.0."),
        ("time_embedding.linear_1.", "time_embed.0."),
        ("time_embedding.linear_2.", "time_embed.2."),
    ]
    pairs += [
        ("conv_norm_out.", "out.0."),
        ("conv_out.", "out.2."),
        ("add_embedding.linear_1.", "label_emb.0.0."),
        ("add_embedding.linear_2.", "label_emb.0.2."),
    ]
    for i in range(levels):
        for j in range(layers):
            index = 1 + i * (layers + 1) + j
            pairs += resnet_pairs(f"down_blocks.{i}.resnets.{j}", f"input_blocks.{index}.0")
            pairs.append((f"down_blocks.{i}.attentions.{j}.", f"input_blocks.{index}.1."))
        pairs.append((f"down_blocks.{i}.downsamplers.0.conv.", f"input_blocks.{(i + 1) * (layers + 1)}.0.op."))
        for j in range(layers + 1):
            index = i * (layers + 1) + j
            pairs += resnet_pairs(f"up_blocks.{i}.resnets.{j}", f"output_blocks.{index}.0")
            pairs.append((f"up_blocks.{i}.attentions.{j}.", f"output_blocks.{index}.1."))
        attention = "CrossAttn" in unet.config.up_block_types[i]
        pairs.append(
            (
                f"up_blocks.{i}.upsamplers.0.conv.",
                f"output_blocks.{i * (layers + 1) + layers}.{2 if attention else 1}.conv.",
            )
        )
    pairs += [
        *resnet_pairs("mid_block.resnets.0", "middle_block.0"),
        *resnet_pairs("mid_block.resnets.1", "middle_block.2"),
    ]
    return [*pairs, ("mid_block.attentions.0.", "middle_block.1.")]


def ldm_controlnet(tensors: dict[str, Tensor], unet: Any) -> dict[str, Tensor]:
    """A ControlNet's tensors in the original layout, for a UNet of one layer per block and two levels."""
    shared = {name: value for name, value in tensors.items() if not name.startswith("controlnet_")}
    out = renamed(shared, ldm_unet_pairs(unet))
    hint = {"conv_in.": "0.", **{f"blocks.{i}.": f"{2 * (i + 1)}." for i in range(6)}, "conv_out.": "14."}
    pairs = [(f"controlnet_cond_embedding.{theirs}", f"input_hint_block.{ours}") for theirs, ours in hint.items()]
    pairs.append(("controlnet_mid_block.", "middle_block_out.0."))
    skips = {name.split(".")[1] for name in tensors if name.startswith("controlnet_down_blocks.")}
    pairs += [(f"controlnet_down_blocks.{i}.", f"zero_convs.{i}.0.") for i in skips]
    return out | renamed({name: value for name, value in tensors.items() if name not in shared}, pairs)


def ldm_vae(vae: Any) -> dict[str, Tensor]:
    levels, pairs = len(vae.config.block_out_channels), []
    for side in ("encoder", "decoder"):
        down = side == "encoder"
        for i in range(levels):
            theirs, ours = (f"down_blocks.{i}", f"down.{i}") if down else (f"up_blocks.{i}", f"up.{levels - 1 - i}")
            for j in range(vae.config.layers_per_block + (not down)):
                pairs.append((f"{side}.{theirs}.resnets.{j}.conv_shortcut.", f"{side}.{ours}.block.{j}.nin_shortcut."))
                pairs.append((f"{side}.{theirs}.resnets.{j}.", f"{side}.{ours}.block.{j}."))
            sampler = "downsample" if down else "upsample"
            pairs.append((f"{side}.{theirs}.{sampler}rs.0.conv.", f"{side}.{ours}.{sampler}.conv."))
        pairs += [(f"{side}.mid_block.resnets.{j}.", f"{side}.mid.block_{j + 1}.") for j in (0, 1)]
        attention = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}
        pairs += [(f"{side}.mid_block.attentions.0.{a}.", f"{side}.mid.attn_1.{b}.") for a, b in attention.items()]
        pairs += [
            (f"{side}.conv_norm_out.", f"{side}.norm_out."),
            (f"{side}.conv_in.", f"{side}.conv_in."),
            (f"{side}.conv_out.", f"{side}.conv_out."),
        ]
    tensors = renamed(
        vae.state_dict(), [*pairs, ("quant_conv.", "quant_conv."), ("post_quant_conv.", "post_quant_conv.")]
    )
    return {
        name: value[:, :, None, None] if ".attn_1." in name and value.ndim == 2 else value
        for name, value in tensors.items()
    }


def open_clip(model: Any) -> dict[str, Tensor]:
    """OpenCLIP's names: query, key and value in one tensor, the projection transposed."""
    weights = {name.removeprefix("text_model."): value for name, value in model.state_dict().items()}
    out = {
        "token_embedding.weight": weights["embeddings.token_embedding.weight"],
        "positional_embedding": weights["embeddings.position_embedding.weight"],
    }
    out |= {f"ln_final.{part}": weights[f"final_layer_norm.{part}"] for part in ("weight", "bias")}
    if "text_projection.weight" in weights:
        out["text_projection"] = weights["text_projection.weight"].T
    names = {
        "self_attn.out_proj": "attn.out_proj",
        "layer_norm1": "ln_1",
        "layer_norm2": "ln_2",
        "mlp.fc1": "mlp.c_fc",
        "mlp.fc2": "mlp.c_proj",
    }
    for layer in range(model.config.num_hidden_layers):
        old, new = f"encoder.layers.{layer}", f"transformer.resblocks.{layer}"
        for part in ("weight", "bias"):
            out[f"{new}.attn.in_proj_{part}"] = torch.cat(
                [weights[f"{old}.self_attn.{one}_proj.{part}"] for one in "qkv"]
            )
            out |= {f"{new}.{ours}.{part}": weights[f"{old}.{theirs}.{part}"] for theirs, ours in names.items()}
    return out


# Adapters


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
