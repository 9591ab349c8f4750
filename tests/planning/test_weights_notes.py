"""What is used although nobody named it is said."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from linfusion_cli.cli.spelling import told
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import Message
from linfusion_cli.planning.job_weights import JobWeights
from linfusion_cli.planning.weights_notes import weights_notes


def notes(**given: Any) -> tuple[Message, ...]:
    job = resolve(Request(prompt="a lake", **given))
    return weights_notes(job, JobWeights.of(job))


def test_the_usual_autoencoder_of_the_family(tmp_path: Path) -> None:
    shapes = {"input_blocks.0.0.weight": (8, 4, 3, 3), "input_blocks.1.1.proj_in.weight": (8, 8, 1, 1)}
    unet = {f"model.diffusion_model.{name}": torch.ones(shape) for name, shape in shapes.items()}
    save_file(unet, tmp_path / "novae.safetensors")
    preset = tmp_path / "own.toml"
    preset.write_text(f'extends = "sd15-4k"\n[model]\nrepositories = ["{tmp_path}/novae.safetensors"]\n')
    [note] = notes(preset=str(preset))
    assert told(note) == (
        "novae.safetensors holds no autoencoder: stabilityai/sd-vae-ft-mse is used, the usual one of Stable Diffusion "
        "1.x. Another: --vae LOCATION"
    )
    assert notes(preset=str(preset), vae="owner/vae") == ()
    save_file(
        unet | {"first_stage_model.encoder.conv_in.weight": torch.ones(8, 3, 3, 3)}, tmp_path / "novae.safetensors"
    )
    [note] = notes(preset=str(preset))
    assert told(note).startswith("novae.safetensors holds only a part of an autoencoder: ")


@pytest.mark.covers(
    "textual inversion with another number of vectors in `clip_l` than in `clip_g`", "a note", families=("sdxl",)
)
def test_an_embedding_with_other_numbers_of_vectors(tmp_path: Path) -> None:
    file = tmp_path / "words.safetensors"
    asked = {"preset": "sdxl-4k", "textual_inversions": (f"{file}:qqx",)}
    save_file({"clip_l": torch.ones(2, 768), "clip_g": torch.ones(3, 1280)}, file)
    [note] = notes(**asked)
    assert told(note) == (
        "words.safetensors: not the same number of vectors in both (3 in clip_g, 2 in clip_l): each text encoder reads "
        "its own, as in diffusers and ComfyUI, not as in A1111"
    )
    save_file({"clip_l": torch.ones(3, 768), "clip_g": torch.ones(3, 1280)}, file)
    assert notes(**asked) == ()


@pytest.mark.parametrize(
    ("key", "value", "given", "advice"),
    [
        ("ss_network_alpha", "2.0", "", ". By alpha / rank it would be --lora {file}:0.25"),
        ("lora_alpha", "4", ":0.5:1", ". By alpha / rank it would be --lora {file}:0.25:0.5"),
        ("alpha", "Dynamic", "", ""),
    ],
)
@pytest.mark.covers("alpha in a LoRA's header alone (`ss_network_alpha`, `lora_alpha`, `alpha`)", "a note")
def test_an_alpha_of_the_header_that_scales_nothing(
    tmp_path: Path, key: str, value: str, given: str, advice: str
) -> None:
    """ai-toolkit, ComfyUI, A1111 and diffusers scale such files by nothing; alpha tensors are what counts."""
    file, tensors = tmp_path / "style.safetensors", {"unet.mid.attn1.to_q.lora_A.weight": torch.ones(8, 4)}
    asked = {"preset": "sd15-4k", "loras": (f"{file}{given}",)}
    save_file(tensors, file, {key: value})
    [note] = notes(**asked)
    assert told(note) == (
        f"style.safetensors: its header says {key} {value}, a layer has the rank 8, and no tensor holds an alpha: "
        f"it acts at full strength, as in ComfyUI, A1111 and diffusers{advice.format(file=file)}"
    )
    for metadata in ({}, {key: "8"}, {"lora_adapter_metadata": "{}", key: value}):
        save_file(tensors, file, metadata)
        assert notes(**asked) == ()
    save_file(tensors | {"unet.mid.attn1.to_q.alpha": torch.ones(())}, file, {key: value})
    assert notes(**asked) == ()


@pytest.mark.parametrize(
    "name", ["lora_te_text_model_encoder_layers_0_mlp_fc1", "text_encoder.text_model.encoder.layers.0.mlp.fc1"]
)
def test_a_lora_of_some_stages_that_was_trained_on_the_text_too(tmp_path: Path, name: str) -> None:
    file = tmp_path / "style.safetensors"
    unet = {"unet.mid.attn1.to_q.lora_A.weight": torch.ones(8, 4)}
    save_file({**unet, f"{name}.lora_A.weight": torch.ones(8, 4)}, file)
    read = "style.safetensors: prompts are read once, for all stages: its part for the text encoders"
    for given, acts in (("@upscale", "is left out"), (":0.5@base", "acts in all of them")):
        assert [told(note) for note in notes(preset="sd15-4k", loras=(f"{file}{given}",))] == [f"{read} {acts}"]
    assert notes(preset="sd15-4k", loras=(str(file),)) == ()
    save_file(unet, file)
    assert notes(preset="sd15-4k", loras=(f"{file}@upscale",)) == ()


@pytest.mark.covers("T2I-Adapter of 1.x on 2.x, which nothing in its file tells apart", "a note", families=("sd21",))
def test_a_t2i_adapter_on_2x(tmp_path: Path) -> None:
    """TencentARC has none for 2.x; the UNets of 1.x and 2.x have the same channels."""
    net = tmp_path / "net"
    net.mkdir()
    (net / "config.json").write_text('{"_class_name": "T2IAdapter"}')
    Image.new("RGB", (64, 64)).save(tmp_path / "edges.png")
    given = {"controlnets": (str(net),), "control_images": (tmp_path / "edges.png",)}
    [note] = notes(preset="sd21-4k", **given)
    assert told(note).startswith("net: nothing in a T2I-Adapter tells Stable Diffusion 1.x from 2.x")
    assert notes(preset="sd15-4k", **given) == ()
