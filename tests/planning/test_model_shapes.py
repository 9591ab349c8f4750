"""The shapes that plans are made of: read from a folder, from the hub's cache, from configs of any age."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import WeightsError
from linfusion_cli.models import family_folder
from linfusion_cli.planning.model_shapes import (
    OnTop,
    family_architecture,
    read_architecture,
    read_on_top,
    with_controlnets,
)
from linfusion_cli.planning.planner import make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.weights.families import FAMILY_ROWS
from linfusion_cli.weights.weight_file import WeightFile

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPOSITORY = "somebody/half-as-wide"


def at(path: Path, parameter: str) -> WeightFile:
    return WeightFile.resolve((str(path),), "", parameter)


@pytest.mark.parametrize("family", FAMILY_ROWS)
def test_the_families_published_configs_have_the_families_shapes(family: str) -> None:
    assert read_architecture(at(family_folder(family), "model"), family) == family_architecture(family)


def test_the_shapes_of_the_three_families() -> None:
    sd15, sd21, sdxl = (family_architecture(name).unet for name in ("sd15", "sd21", "sdxl"))
    assert (sd15.channels, sd15.depths, sd15.heads) == ((320, 640, 1280, 1280), (1, 1, 1, 0), (8, 8, 8, 8))
    assert sd21 == replace(
        sd15, text_dim=1024, heads=(5, 10, 20, 20), parameters=865_910_724, controlnet_parameters=364_228_240
    )
    assert (sdxl.channels, sdxl.depths, sdxl.heads) == ((320, 640, 1280), (0, 2, 10), (5, 10, 20))
    assert (sdxl.text_dim, sdxl.middle_depth, sdxl.layers, sdxl.f_divisor) == (2048, 10, 2, 16)
    vaes = [family_architecture(name).vae for name in ("sd15", "sd21", "sdxl")]
    assert [vae.upcast for vae in vaes] == [False, False, True]
    assert {(vae.channels, vae.layers, vae.attention) for vae in vaes} == {((128, 256, 512, 512), 2, True)}


def test_configs_that_are_older_than_their_keys(tmp_path: Path) -> None:
    shutil.copytree(family_folder("sd15"), tmp_path, dirs_exist_ok=True)
    path = tmp_path / "unet" / "config.json"
    config = json.loads(path.read_text())
    kept = ("block_out_channels", "down_block_types", "up_block_types", "cross_attention_dim", "attention_head_dim")
    path.write_text(json.dumps({name: config[name] for name in kept}))
    assert read_architecture(at(tmp_path, "model")) == family_architecture("sd15")
    for broken in ("{", "[]", "{}"):
        path.write_text(broken)
        with pytest.raises(WeightsError, match=r"unet/config\.json"):
            read_architecture(at(tmp_path, "model"))


def test_parameters_are_counted_whatever_their_number_format(tmp_path: Path) -> None:
    shutil.copytree(family_folder("sdxl"), tmp_path, dirs_exist_ok=True)
    tensors = {"conv_in.weight": torch.zeros(2, 4, 1, 1), "x.proj_in.weight": torch.zeros(7, 1)}
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model"), ("text_encoder_2", "model")):
        save_file(tensors, tmp_path / part / f"{stem}.safetensors")
        halves = {name: value.half() for name, value in tensors.items()}
        save_file(halves, tmp_path / part / f"{stem}.fp16.safetensors")
    found = read_architecture(at(tmp_path, "model"), "sdxl")
    assert (found.unet.parameters, found.text_parameters) == (15, 30)
    assert found.unet.linear_parameters == family_architecture("sdxl").unet.linear_parameters
    (tmp_path / "unet" / "diffusion_pytorch_model.fp16.safetensors").write_bytes(b"torn")
    assert read_architecture(at(tmp_path, "model"), "sdxl") == found
    (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"torn")
    with pytest.raises(WeightsError, match="cut off within its header"):
        at(tmp_path, "model")


def test_a_model_in_the_hubs_cache_is_planned_with_its_own_shapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    (tmp_path / "preset.toml").write_text(
        f'extends = "sd15-4k"\n[model]\nrepositories = ["nobody/absent", "{REPOSITORY}"]\n'
    )
    job = resolve(Request(prompt="a lake", preset=str(tmp_path / "preset.toml"), size="1024x1024", seed=1))
    absent = make_plan(job, find_machine("cpu"))
    root = tmp_path / f"models--{REPOSITORY.replace('/', '--')}"
    shutil.copytree(family_folder("sd15"), root / "snapshots" / COMMIT)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    assert make_plan(job, find_machine("cpu")).peak_bytes == absent.peak_bytes
    path = root / "snapshots" / COMMIT / "unet" / "config.json"
    config = json.loads(path.read_text())
    path.write_text(
        json.dumps({**config, "block_out_channels": [channels // 2 for channels in config["block_out_channels"]]})
    )
    assert make_plan(job, find_machine("cpu")).seconds < 0.7 * absent.seconds


def test_what_is_mounted_is_counted_from_its_files(tmp_path: Path) -> None:
    """A LoRA keeps what its file holds beside what is mounted; an IP-Adapter brings an image encoder."""
    save_file({"a": torch.zeros(10, 7, dtype=torch.float16)}, tmp_path / "lora.safetensors")
    save_file({"a": torch.zeros(100)}, tmp_path / "ip-adapter.safetensors")
    (tmp_path / "image_encoder").mkdir()
    (tmp_path / "image_encoder" / "config.json").write_text("{}")
    save_file({"a": torch.zeros(1000)}, tmp_path / "image_encoder" / "model.safetensors")
    lora, adapter = at(tmp_path / "lora.safetensors", "lora"), at(tmp_path / "ip-adapter.safetensors", "ip_adapter")
    encoder = at(tmp_path / "image_encoder", "ip_encoder")
    assert read_on_top((), None, None) == OnTop()
    assert read_on_top((lora, lora), None, None) == OnTop(140, 0, 280)
    assert read_on_top((lora,), adapter, encoder) == OnTop(170, 1000, 140)
    assert read_on_top((), at(tmp_path / "nothing.safetensors", "ip_adapter"), None) == OnTop()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("lora_down", "lora_up"),
        ("lora_A", "lora_B"),
        ("lora.down", "lora.up"),
        ("lora_linear_layer.down", "lora_linear_layer.up"),
    ],
)
def test_convolutions_under_a_lora_wait_beside_the_merged_ones(first: str, second: str, tmp_path: Path) -> None:
    convolution = {f"conv.{first}.weight": torch.zeros(2, 5, 3, 3), f"conv.{second}.weight": torch.zeros(7, 2, 1, 1)}
    linear = {
        f"to_q.{first}.weight": torch.zeros(2, 5),
        f"to_q.{second}.weight": torch.zeros(7, 2),
        "conv.alpha": torch.zeros(1),
    }
    save_file({**convolution, **linear}, tmp_path / "lora.safetensors")
    lora = at(tmp_path / "lora.safetensors", "lora")
    factors = 2 * 5 * 9 + 7 * 2 + 2 * 5 + 7 * 2 + 1
    assert read_on_top((lora,), None, None).mounted_parameters == factors + 7 * 5 * 9
    staged = read_on_top((), None, None, (lora,))
    assert staged.mounted_parameters == factors + 7 * 5 * 9 + 7 * 5
    assert staged.held_bytes == read_on_top((lora,), None, None).held_bytes


@pytest.mark.parametrize(
    ("names", "mark"),
    [
        (("to_q.lora_down.weight", "to_q.lora_up.weight"), "to_q.dora_scale"),
        (("to_q.lora_A.weight", "to_q.lora_B.weight"), "to_q.lora_magnitude_vector"),
        (("to_q.lora_A.weight", "to_q.lora_B.weight"), "to_q.lora_B.bias"),
    ],
)
def test_a_layer_whose_update_is_merged_is_counted(names: tuple[str, str], mark: str, tmp_path: Path) -> None:
    """DoRA and biases are merged into linear layers, under any trainer's names."""
    down, up = names
    tensors = {down: torch.zeros(2, 5), up: torch.zeros(7, 2), mark: torch.zeros(7)}
    save_file(tensors, tmp_path / "lora.safetensors")
    lora = at(tmp_path / "lora.safetensors", "lora")
    assert read_on_top((lora,), None, None).mounted_parameters == 2 * 5 + 7 * 2 + 7 + 7 * 5


def test_an_autoencoder_for_which_float16_is_too_narrow() -> None:
    assert [family_architecture(name).vae.dtype("float16") for name in ("sd15", "sdxl")] == ["float16", "float32"]
    assert family_architecture("sdxl").vae.dtype("bfloat16") == "bfloat16"


def test_a_controlnet_that_is_larger_than_usual_counts_in_full(tmp_path: Path) -> None:
    like = family_architecture("sd15").unet
    small = replace(like, controlnet_parameters=100)
    save_file({"controlnet_mid_block.weight": torch.zeros(11, 11)}, tmp_path / "net.safetensors")
    net = WeightFile.resolve((str(tmp_path / "net.safetensors"),), "", "controlnet")
    assert with_controlnets(small, [net, net]).controlnet_parameters == 121
    assert with_controlnets(like, [net]) == like
    assert with_controlnets(like, []) == like
