"""Files of models that linfusion can't run: the plan says what each one is, in one line."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from families import Family, make_family, tensors_of
from safetensors.torch import save_file

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import WeightsError
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine

UNET = "model.diffusion_model."
FIRST = f"{UNET}input_blocks.0.0.weight"
# Channels that the first convolution reads, or names of tensors, of real files -> what these are.
CHANNELS = {
    5: "a depth model",
    7: "an upscaler (x4)",
    8: "InstructPix2Pix",
    9: "an inpainting model",
    6: "another kind",
}
BESIDE = {
    "depth_model.model.pretrained.act_postprocess1.0.weight": "a depth model",
    "embedder.model.visual.proj": "Stable unCLIP",
    "noise_augmentor.data_mean": "Stable unCLIP",
    "conditioner.embedders.0.open_clip.model.visual.proj": "Stable Video Diffusion",
    f"{UNET}input_blocks.1.0.time_stack.in_layers.0.weight": "Stable Video Diffusion",
}
ALONE = {
    f"{UNET}joint_blocks.0.x_block.attn.qkv.weight": "Stable Diffusion 3",
    "double_blocks.0.img_attn.qkv.weight": "Flux",
    "clip_txt_mapper.weight": "Stable Cascade",
    "model.double_layers.0.attn.w1q.weight": "AuraFlow",
    "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight": "a motion module of AnimateDiff",
    "text_model.encoder.layers.0.mlp.fc1.weight": "a text encoder (CLIP)",
    "encoder.block.0.layer.0.SelfAttention.q.weight": "a text encoder (T5)",
    "model.1.sub.0.RDB1.conv1.0.weight": "an upscaler of ESRGAN's kind",
    "blocks.0.attn.qkv.weight": "a model without a UNet",  # PixArt, Hunyuan DiT, Wan
    "layers.0.attention.qkv.weight": "a model without a UNet",  # Lumina, Z-Image
    "transformer_blocks.0.attn.add_k_proj.weight": "a transformer model",
    "768.0.linear1.weight": "no Stable Diffusion model of a known family",  # a hypernetwork
}
LORAS = {
    "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.lora_A.weight": "AnimateDiff's motion modules",
    "diffusion_model.blocks.0.self_attn.q.lora_A.weight": "the model's unet has no layer",
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Family:
    return make_family("sd15", tmp_path_factory.mktemp("small") / "all")


def refusal(preset: str, **given: Any) -> str:
    request = Request(prompt="a lake", preset=preset, size="64x64", seed=1, output=Path("x.png"), **given)
    with pytest.raises(WeightsError) as caught:
        make_plan(resolve(request), find_machine("cpu"))
    message = told(caught.value)
    assert len(message) <= 400
    assert "\n" not in message
    return message


def saved(path: Path, tensors: dict[str, torch.Tensor]) -> str:
    save_file(tensors, path)
    return str(path)


@pytest.mark.covers(
    "SD-XL refiner, inpainting and depth models, Stable Diffusion 3, Flux", "refused", families=("sd15",)
)
def test_a_model_of_another_kind_is_told_by_its_kind(small: Family, tmp_path: Path) -> None:
    whole, file, odd = tensors_of(small.file), tmp_path / "odd.safetensors", torch.ones(4, 4)
    for channels, what in CHANNELS.items():
        tensors = whole | {FIRST: torch.ones(16, channels, 3, 3)}
        assert what in refusal(small.preset(file=True), model=saved(file, tensors)), channels
    for name, what in BESIDE.items():
        assert what in refusal(small.preset(file=True), model=saved(file, whole | {name: odd})), name
    for name, what in ALONE.items():
        assert what in refusal(small.preset(file=True), model=saved(file, {name: odd})), name
    assert refusal(small.preset(file=True), model=saved(file, {})).startswith(f"{file}: it holds no tensors")
    eight = whole | {FIRST: torch.ones(16, 4, 3, 3, dtype=torch.int8)}
    assert "holds whole numbers (I8)" in refusal(small.preset(file=True), model=saved(file, eight))


def test_a_lora_of_another_kind_is_told_by_its_kind(small: Family, tmp_path: Path) -> None:
    file = tmp_path / "odd.safetensors"
    for name, what in LORAS.items():
        tensors = {name: torch.ones(2, 4), name.replace("lora_A", "lora_B"): torch.ones(4, 2)}
        assert what in refusal(small.preset(), loras=(saved(file, tensors),)), name


def test_a_scheduler_of_the_index_that_is_unknown(small: Family, tmp_path: Path) -> None:
    """Plain diffusers takes the class of the index, not that of the scheduler's own config."""
    folder = Path(shutil.copytree(small.folder, tmp_path / "model"))
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps(index | {"scheduler": ["diffusers", "EDMEulerScheduler"]}))
    assert "model_index.json: its class is EDMEulerScheduler" in refusal(small.preset(), model=str(folder))


def test_weights_of_another_name_are_told(small: Family, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(small.folder, tmp_path / "model"))
    (folder / "text_encoder" / "model.safetensors").rename(folder / "text_encoder" / "pytorch_model.safetensors")
    assert "pytorch_model.safetensors has no name that linfusion reads" in refusal(small.preset(), model=str(folder))


def test_an_xl_embedding_with_one_of_its_tensors(tmp_path: Path) -> None:
    big = make_family("sdxl", tmp_path / "all")
    file = saved(tmp_path / "words.safetensors", {"clip_l": torch.ones(2, 16)})
    assert "reads clip_g too" in refusal(big.preset(), textual_inversions=(f"{file}:qqx",))
