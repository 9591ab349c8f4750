"""The recipe: the same images everywhere, latents of unit scale, both attentions trained, every part run once."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline
from safetensors.torch import load_file

from linfusion_cli.cli.app import main
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.landscapes import train_denoiser
from linfusion_cli.models import builtin_folder

pytestmark = pytest.mark.slow


@pytest.mark.usefixtures("small_buckets")
def test_the_whole_recipe_runs_and_the_teacher_can_be_distilled(tmp_path: Path) -> None:
    folder = ["--folder", str(tmp_path / "runs"), "--device", "cpu"]
    assert main(["landscapes", "train", "autoencoder", "--steps", "2", *folder]) == 0
    assert main(["landscapes", "train", "denoiser", "--steps", "2", "--linear-share", "0", *folder]) == 0
    assert main(["landscapes", "train", "denoiser", "--steps", "2", "--linear-share", "0.5", *folder]) == 2, (
        "another run's checkpoint"
    )
    assert main(["landscapes", "train", "export", *folder]) == 0
    teacher = tmp_path / "runs" / "landscape"
    unet = StableDiffusionPipeline.from_pretrained(teacher).unet
    LinFusion.load(teacher / "linfusion").mount(unet)
    asked = [
        "--data",
        "scenes",
        "--steps",
        "1",
        "--batch-size",
        "1",
        "--size",
        "64",
        "-o",
        str(tmp_path / "student"),
        "--device",
        "cpu",
        "--quiet",
    ]
    assert main(["distill", str(teacher), *asked]) == 0
    LinFusion.load(tmp_path / "student").check(StableDiffusionPipeline.from_pretrained(teacher).unet)


@pytest.mark.usefixtures("small_buckets")
def test_a_model_is_trained_further_from_what_it_knows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """At a rate of next to nothing the model stays what it is: so it began as what it was."""
    options = [
        "--folder",
        str(tmp_path),
        "--device",
        "cpu",
        "--steps",
        "1",
        "--rate",
        "1e-6",
        "--from",
        "builtin:landscape",
    ]
    for part in ("autoencoder", "denoiser", "export"):
        assert main(["landscapes", "train", part, *options]) == 0
    words = [
        (folder / "tokenizer" / "tokenizer.json").read_text()
        for folder in (builtin_folder("builtin:landscape"), tmp_path / "landscape")
        if folder
    ]
    assert words[0] == words[1], "a text encoder knows the numbers of its own words only"
    before, after = (
        train_denoiser.Student.of(folder).state_dict()
        for folder in (builtin_folder("builtin:landscape"), tmp_path / "landscape")
        if folder
    )
    assert all(torch.allclose(after[name], value, atol=2e-3) for name, value in before.items())
    assert main(["landscapes", "train", "denoiser", *options[:-1], str(tmp_path)]) == 2
    assert "--from builtin:landscape" in capsys.readouterr().err


@pytest.mark.usefixtures("small_buckets")
def test_a_blend_lies_between_the_model_and_its_training(tmp_path: Path) -> None:
    """Of every weight, within float16's rounding; all of the model itself is the model, bit for bit."""
    options = ["--folder", str(tmp_path), "--device", "cpu", "--from", "builtin:landscape"]
    for part in ("autoencoder", "denoiser"):
        assert main(["landscapes", "train", part, "--steps", "1", "--rate", "1e-3", *options]) == 0
    model, found = builtin_folder("builtin:landscape"), {}
    assert model is not None
    for blend in ("1", "0", "0.25"):
        assert main(["landscapes", "train", "export", "--blend", blend, *options]) == 0
        found[blend] = load_file(tmp_path / "landscape" / "unet" / "diffusion_pytorch_model.safetensors")
    before, changed = load_file(model / "unet" / "diffusion_pytorch_model.safetensors"), 0
    for name, tensor in before.items():
        assert torch.equal(found["0"][name], tensor)
        between = torch.lerp(tensor.float(), found["1"][name].float(), 0.25)
        assert torch.allclose(found["0.25"][name].float(), between, rtol=2e-3, atol=1e-5)
        changed += not torch.equal(found["1"][name], tensor)
    assert changed > len(before) / 2


@pytest.mark.parametrize("words", [["export"], ["denoiser", "--from", "builtin:landscape"]])
def test_a_blend_needs_an_export_and_its_model(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["landscapes", "train", *words, "--blend", "0.5"]) == 2
    assert "--blend is of an export" in capsys.readouterr().err
