"""The original (CompVis and Stability) layout of one file, from diffusers' names: the inverse key mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor


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
