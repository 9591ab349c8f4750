"""Image encoders in one file: names and config as transformers has them, whoever saved the file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from linfusion_cli.engine.adapters.image_encoder import load_image_encoder
from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.image_encoder import encoder_config, is_image_encoder, transformers_names
from linfusion_cli.weights.safetensors_header import read_header
from linfusion_cli.weights.weight_file import WeightFile

pytestmark = pytest.mark.slow  # all of them together

SIZES = {"hidden_size": 1280, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 16}
CONFIG = {**SIZES, "image_size": 16, "patch_size": 8, "projection_dim": 12, "hidden_act": "gelu"}


def open_clip(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The names of OpenCLIP, by the inverse of the mapping: written out, not taken from the code."""
    renames = {
        "vision_model.embeddings.class_embedding": "visual.class_embedding",
        "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
        "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    }
    renames |= {f"vision_model.pre_layrnorm.{part}": f"visual.ln_pre.{part}" for part in ("weight", "bias")}
    renames |= {f"vision_model.post_layernorm.{part}": f"visual.ln_post.{part}" for part in ("weight", "bias")}
    out = {new: tensors[old] for old, new in renames.items()}
    out["visual.proj"] = tensors["visual_projection.weight"].T.contiguous()
    inner = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj"}
    inner |= {"mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}
    for layer in range(2):
        old, new = f"vision_model.encoder.layers.{layer}", f"visual.transformer.resblocks.{layer}"
        for part in ("weight", "bias"):
            out |= {f"{new}.{ours}.{part}": tensors[f"{old}.{theirs}.{part}"] for theirs, ours in inner.items()}
            fused = [tensors[f"{old}.self_attn.{one}_proj.{part}"] for one in "qkv"]
            out[f"{new}.attn.in_proj_{part}"] = torch.cat(fused)
    return out


@pytest.fixture(scope="module")
def model() -> CLIPVisionModelWithProjection:
    torch.manual_seed(0)
    return CLIPVisionModelWithProjection(CLIPVisionConfig(**CONFIG)).eval()


@pytest.mark.parametrize("layout", ["folder", "transformers", "OpenCLIP", "whole CLIP"])
@pytest.mark.covers(
    "image encoder in one file (names of transformers or OpenCLIP; ViT-L, ViT-H, ViT-bigG)", "used, equal"
)
def test_every_layout_embeds_as_transformers_does(
    model: CLIPVisionModelWithProjection, tmp_path: Path, layout: str
) -> None:
    tensors = {name: value.clone() for name, value in model.state_dict().items()}
    text = {"text_model.x": torch.ones(2), "logit_scale": torch.ones(()), "token_embedding.weight": torch.ones(2)}
    path = tmp_path / "clip.safetensors"
    if layout == "folder":
        model.save_pretrained(path := tmp_path / "image_encoder")
    elif layout == "transformers":
        save_file(tensors, path)
    else:
        save_file((open_clip(tensors) if layout == "OpenCLIP" else tensors) | text, path)
    pixels = torch.randn(1, 3, 16, 16)
    ours = load_image_encoder(WeightFile.resolve((str(path),), "", "ip_encoder"), torch.float32)
    with torch.no_grad():
        assert torch.equal(ours(pixels).image_embeds, model(pixels).image_embeds)
    told = encoder_config(path, WeightFile.resolve((str(path),), "", "ip_encoder").headers)
    assert {key: told[key] for key in CONFIG} == CONFIG
    assert path.is_dir() or is_image_encoder(read_header(path).tensors)


def test_what_is_no_image_encoder(model: CLIPVisionModelWithProjection, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file({"text_model.embeddings.x": torch.ones(2)}, path)
    with pytest.raises(WeightsError, match="not an image encoder of CLIP with its projection"):
        encoder_config(path, [read_header(path)])
    narrow = {name: value[..., :640].clone() for name, value in model.state_dict().items()}
    save_file(narrow, path)
    with pytest.raises(WeightsError, match=r"of width 640\. Allowed: 1024"):
        encoder_config(path, [read_header(path)])
    assert transformers_names("vision_model.embeddings.position_ids") == ()
