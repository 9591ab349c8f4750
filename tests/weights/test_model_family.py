"""What weights are, and of which family, is told by their tensors; what linfusion can't run is named."""

from pathlib import Path

import pytest
import torch
from families import FAMILIES, tiny_unet
from original_layout import ldm_unet
from safetensors.torch import save_file

from linfusion_cli.errors import WeightsError
from linfusion_cli.weights.model_family import (
    check_family,
    check_kind,
    family_of,
    kind_of,
    text_dim,
)
from linfusion_cli.weights.safetensors_header import TensorInfo, read_header
from linfusion_cli.weights.weight_file import family_of_model


def tensors(**shapes: tuple[int, ...]) -> dict[str, TensorInfo]:
    """Tensors of these shapes; "__" stands for "." in a name."""
    return {name.replace("__", "."): TensorInfo("F32", shape, 0, 0) for name, shape in shapes.items()}


@pytest.mark.parametrize(
    ("name", "shape", "kind"),
    [
        ("model.diffusion_model.input_blocks.0.0.weight", (4, 4, 3, 3), "checkpoint"),
        ("lora_unet_mid_block.lora_down.weight", (4, 8), "lora"),
        ("unet.mid_block.to_q.hada_w1_a", (4, 8), "lora"),
        ("image_proj.proj.weight", (4, 8), "ip-adapter"),
        ("ip_adapter.1.to_k_ip.weight", (4, 8), "ip-adapter"),
        ("controlnet_cond_embedding.conv_in.weight", (4, 3, 3, 3), "controlnet"),
        ("control_model.zero_convs.0.0.weight", (4, 4, 1, 1), "controlnet"),
        ("adapter.body.0.in_conv.weight", (4, 4, 1, 1), "t2i-adapter"),
        ("down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q_.0.weight", (4, 4), "linfusion"),
        ("down_blocks.0.attentions.0.proj_in.weight", (4, 4), "unet"),
        ("decoder.conv_in.weight", (4, 4, 3, 3), "vae"),
        ("first_stage_model.decoder.conv_in.weight", (4, 4, 3, 3), "vae"),
        ("emb_params", (2, 16), "embedding"),
        ("emb_params", (2, 16, 3), "unknown"),
        ("down_blocks.0.resnets.0.norm1.weight", (4, 1, 1), "unknown"),
    ],
)
def test_the_kind_is_told_by_one_tensor(name: str, shape: tuple[int, ...], kind: str) -> None:
    assert kind_of({name: TensorInfo("F32", shape, 0, 0)}) == kind


def test_an_empty_file_and_many_vectors_are_of_no_kind() -> None:
    assert kind_of({}) == "unknown"
    assert kind_of(tensors(a=(2,), b=(2,), c=(2,), d=(2,), e=(2,))) == "unknown"


@pytest.mark.parametrize("family", FAMILIES)
def test_the_family_is_told_by_the_tensors_in_both_layouts(family: str, tmp_path: Path) -> None:
    unet = tiny_unet(family)
    save_file(dict(unet.state_dict()), tmp_path / "a.safetensors")
    save_file(
        {f"model.diffusion_model.{k}": v.contiguous() for k, v in ldm_unet(unet).items()}, tmp_path / "b.safetensors"
    )
    kinds = []
    for name in ("a", "b"):
        tensors = read_header(tmp_path / f"{name}.safetensors").tensors
        assert family_of(tensors, tmp_path) == family
        kinds.append(kind_of(tensors))
    assert kinds == ["unet", "checkpoint"]


@pytest.mark.covers("SD-XL refiner, inpainting and depth models, Stable Diffusion 3, Flux", "refused")
def test_inpainting_models_and_other_files_are_refused(tmp_path: Path) -> None:
    tensors = dict(tiny_unet("sd15").state_dict())
    tensors["conv_in.weight"] = torch.zeros(16, 9, 3, 3)
    save_file(tensors, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"9 channels .*inpainting"):
        family_of(read_header(tmp_path / "a.safetensors").tensors, tmp_path)
    save_file({"lora_unet_x.lora_down.weight": torch.zeros(2, 3)}, tmp_path / "b.safetensors")
    tensors_of_lora = read_header(tmp_path / "b.safetensors").tensors
    with pytest.raises(WeightsError, match="Did you mean lora"):
        family_of(tensors_of_lora, tmp_path)
    with pytest.raises(WeightsError, match=r"controlnet .*looks like: lora.*Did you mean lora"):
        check_kind(tensors_of_lora, "controlnet", tmp_path, "controlnet")


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("model.diffusion_model.joint_blocks.0.x", "Stable Diffusion 3"),
        ("double_blocks.0.img_attn.proj.weight", "Flux"),
        ("adapter.body.0.block1.weight", "a T2I-Adapter"),
        ("lllite_unet_input_blocks_4_1.down.0.weight", "a ControlNet-LLLite"),
    ],
)
def test_models_of_other_architectures_are_named(tmp_path: Path, name: str, named: str) -> None:
    save_file({name: torch.ones(2, 2, 1)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=named):
        family_of_model(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    ("conv_in", "projection", "to_k", "family"),
    [
        ((320, 4, 3, 3), (320, 320, 1, 1), (320, 768), "sd15"),
        ((320, 4, 3, 3), (320, 320), (320, 1024), "sd21"),
        ((320,), (320, 320, 1, 1), (320, 768), ""),
        ((320, 4), (320, 320, 1, 1), (320, 768), ""),
        ((320, 4, 3, 3), (320, 320, 1, 1), (320,), "sd15"),
    ],
    ids=["1.x", "2.x", "vector", "matrix", "no text"],
)
def test_odd_shapes_are_no_fault_of_the_program(
    conv_in: tuple[int, ...], projection: tuple[int, ...], to_k: tuple[int, ...], family: str
) -> None:
    found = tensors(conv_in__weight=conv_in, a__proj_in__weight=projection, a__attn2__to_k__weight=to_k)
    if family:
        assert family_of(found, Path("x")) == family
        assert text_dim(found) == (to_k[1] if len(to_k) > 1 else 0)
    else:
        with pytest.raises(WeightsError, match="no Stable Diffusion model of a known family"):
            family_of(found, Path("x"))


@pytest.mark.covers(
    "SD-XL refiner, inpainting and depth models, Stable Diffusion 3, Flux", "refused", families=("sdxl",)
)
def test_the_refiner_is_refused_with_what_to_use() -> None:
    refiner = tensors(
        conv_in__weight=(384, 4, 3, 3),
        a__proj_in__weight=(384, 384),
        add_embedding__linear_1__weight=(8, 8),
        a__attn2__to_k__weight=(384, 1280),
    )
    with pytest.raises(WeightsError, match="Use the SD-XL base model"):
        family_of(refiner, Path("x"))


def test_a_model_of_another_family_than_the_preset_names_the_preset_for_it() -> None:
    check_family(Path("x"), "sd15", "sd15", "sd15-4k")
    with pytest.raises(WeightsError, match=r"Stable Diffusion XL.*sd15-4k is for sd15.*preset=.sdxl-4k"):
        check_family(Path("x"), "sdxl", "sd15", "sd15-4k")


@pytest.mark.parametrize(
    ("name", "said"),
    [("lora_controlnet", "a control-LoRA"), ("lllite_unet_x.down.0.weight", "a ControlNet-LLLite")],
)
def test_controls_that_are_no_controlnet_are_named(name: str, said: str) -> None:
    with pytest.raises(WeightsError, match=f"{said}.*full ControlNet") as caught:
        check_kind({name: TensorInfo("F32", (2, 2), 0, 0)}, "controlnet", Path("x"), "controlnet")
    assert caught.value.parameter == "controlnet"


@pytest.mark.parametrize(
    ("name", "shape", "option"),
    [
        ("emb_params", (2, 16), "textual_inversion"),
        ("image_proj.proj.weight", (4, 8), "ip_adapter"),
        ("decoder.conv_in.weight", (4, 4, 3, 3), "vae"),
        ("model.diffusion_model.input_blocks.0.0.weight", (4, 4, 3, 3), "model"),
    ],
)
def test_what_is_given_to_the_wrong_option_is_told_the_right_one(
    name: str, shape: tuple[int, ...], option: str
) -> None:
    with pytest.raises(WeightsError, match=f"not lora. Did you mean {option}"):
        check_kind({name: TensorInfo("F32", shape, 0, 0)}, "lora", Path("x"), "lora")
