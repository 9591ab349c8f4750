"""The recipe: the same images everywhere, latents of unit scale, both attentions trained, every part run once."""

from pathlib import Path

import pytest
import torch
from diffusers import StableDiffusionPipeline

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
