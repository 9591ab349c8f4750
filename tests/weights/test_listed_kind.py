"""What a folder of models says of a file: the option that takes it, and its family, from headers and configs alone."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.weights.listed_kind import KINDS, family_of_listed, kinds_inside
from linfusion_cli.weights.model_folders import FOLDERS

UNET = {"conv_in.weight": (8, 4, 3, 3), "down_blocks.0.attentions.0.proj_in.weight": (8, 8, 1, 1)}
SINGLE = {
    "model.diffusion_model.input_blocks.0.0.weight": (8, 4, 3, 3),
    "model.diffusion_model.input_blocks.1.1.proj_in.weight": (8, 8),
}
CROSS = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"
KOHYA = f"lora_unet_{CROSS.replace('.', '_')}"
T2I = {"adapter.body.0.resnets.0.block1.weight": (4, 4, 3, 3), "adapter.conv_in.weight": (4, 768, 3, 3)}
FILES = {
    "model": (SINGLE, "sd21"),
    "unet": (UNET, "sd15"),
    "vae": ({"decoder.conv_in.weight": (4, 4, 3, 3)}, ""),
    "loras": ({f"{KOHYA}.lora_down.weight": (1, 2048), f"{KOHYA}.lora_up.weight": (8, 1)}, "sdxl"),
    "controlnets": ({**UNET, "controlnet_cond_embedding.conv_in.weight": (4, 3, 3, 3)}, "sd15"),
    "ip_adapter": ({"image_proj.norm.bias": (768,), "ip_adapter.1.to_k_ip.weight": (8, 768)}, "sd15"),
    "ip_encoder": ({"vision_model.embeddings.class_embedding": (8,)}, ""),
    "textual_inversions": ({"emb_params": (2, 1024)}, "sd21"),
    "linfusion": ({"down_blocks.0.attn1.to_q_.0.weight": (8, 8)}, ""),
}


def saved(path: Path, shapes: dict[str, tuple[int, ...]], **metadata: str) -> Path:
    save_file({name: torch.zeros(shape) for name, shape in shapes.items()}, path, metadata)
    return path


def test_the_kinds_are_those_of_the_folders_and_of_this_test() -> None:
    assert set(FOLDERS) == KINDS == set(FILES)


@pytest.mark.parametrize("kind", FILES)
def test_a_file_is_of_the_kind_and_family_that_its_header_tells(kind: str, tmp_path: Path) -> None:
    shapes, family = FILES[kind]
    path = saved(tmp_path / "x.safetensors", shapes)
    assert kinds_inside(path, KINDS, KINDS) == {kind}
    assert family_of_listed(path, kind) == family


@pytest.mark.parametrize(
    ("shapes", "metadata", "family"),
    [
        ({f"unet.{CROSS}.lora_A.weight": (1, 768)}, {}, "sd15"),
        ({f"{KOHYA}.hada_w1_b": (1, 1024)}, {}, "sd21"),
        ({"lora_te2_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": (1, 8)}, {}, "sdxl"),
        ({"lora_unet_x.lora_down.weight": (1, 8)}, {"ss_base_model_version": "sd_v1"}, "sd15"),
        ({"lora_unet_x.lora_down.weight": (1, 8)}, {"ss_base_model_version": "sdxl_base_v1-0"}, "sdxl"),
        ({"lora_unet_x.lora_down.weight": (1, 8)}, {}, ""),
    ],
)
def test_the_family_of_a_lora(
    shapes: dict[str, tuple[int, ...]], metadata: dict[str, str], family: str, tmp_path: Path
) -> None:
    assert family_of_listed(saved(tmp_path / "x.safetensors", shapes, **metadata), "loras") == family


def test_other_families(tmp_path: Path) -> None:
    assert family_of_listed(saved(tmp_path / "t.safetensors", T2I), "controlnets") == "sdxl"
    assert family_of_listed(saved(tmp_path / "e.safetensors", {"clip_g": (1, 8)}), "textual_inversions") == "sdxl"
    (tmp_path / "torn.safetensors").write_bytes(b"1234")
    for kind in ("model", "loras", "controlnets"):
        assert family_of_listed(tmp_path / "torn.safetensors", kind) == "unusable"


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "unet"),
        ({"_class_name": "AutoencoderKL"}, "vae"),
        ({"_class_name": "ControlNetModel"}, "controlnets"),
        ({"_class_name": "T2IAdapter"}, "controlnets"),
        ({"architectures": ["CLIPVisionModelWithProjection"]}, "ip_encoder"),
    ],
)
def test_a_folder_is_of_the_kind_that_its_config_tells(config: dict[str, object], kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert kinds_inside(tmp_path, KINDS, KINDS) == {kind}


def test_what_can_not_be_read_is_of_every_kind(tmp_path: Path) -> None:
    for name, content in (("a.ckpt", b"x"), ("b.safetensors", b"x"), ("config.json", b"{")):
        (tmp_path / name).write_bytes(content)
    for path in (tmp_path / "a.ckpt", tmp_path / "b.safetensors", tmp_path):
        assert kinds_inside(path, frozenset({"vae", "loras"}), KINDS) == {"vae", "loras"}


def test_a_folder_for_one_kind_decides(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.safetensors", FILES["vae"][0])
    assert kinds_inside(path, frozenset({"loras"}), frozenset({"loras"})) == {"loras"}
    assert kinds_inside(path, frozenset(), frozenset({"loras"})) == frozenset()
