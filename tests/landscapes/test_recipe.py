"""The recipe: the same images everywhere, latents of unit scale, both attentions trained, every part run once."""

from contextlib import nullcontext
from multiprocessing.pool import ThreadPool
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from diffusers import StableDiffusionPipeline

from linfusion_cli.cli.app import main
from linfusion_cli.engine.attention.linfusion import LinFusion
from linfusion_cli.landscapes import data, train_autoencoder, train_denoiser
from linfusion_cli.landscapes.data import Bucket
from linfusion_cli.models import builtin_folder

pytestmark = pytest.mark.slow


@pytest.fixture
def small_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few images, rendered by threads: a process for each bucket would import torch anew."""
    monkeypatch.setattr(
        train_autoencoder, "BUCKETS", (Bucket(128, 128, 8, windows=False), Bucket(512, 512, 2, windows=True))
    )
    monkeypatch.setattr(train_denoiser, "BUCKETS", tuple(Bucket(64, 64, 8, windows=index > 2) for index in range(6)))
    monkeypatch.setattr(data.multiprocessing, "get_context", lambda kind: SimpleNamespace(Pool=ThreadPool))


def test_batches_do_not_depend_on_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linfusion_cli.landscapes.data.os.cpu_count", lambda: 1)
    bucket = Bucket(16, 24, 6, windows=True)
    first, second = data.gather(data.render_bucket(bucket, 3, torch.device("cpu"))), data._render_batch((bucket, 3, 0))
    assert isinstance(first, data.Images)
    assert torch.equal(first.images, second.images)
    assert first.captions == second.captions
    assert first.images.shape == (6, 3, 16, 24)


def test_standardised_latents_have_unit_scale_and_decode_the_same() -> None:
    torch.manual_seed(0)
    vae = train_autoencoder.build().eval()
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        x = images.float() / 127.5 - 1
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        train_autoencoder.standardise(vae, images)
        latents = vae.encode(x).latent_dist.mean
        after = vae.decode(latents).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-4)


def test_one_step_trains_both_attentions_and_leaves_nothing_mounted() -> None:
    torch.manual_seed(0)
    tokenizer = train_denoiser.build_tokenizer()
    student = train_denoiser.Student(train_denoiser.build_text_encoder(tokenizer), train_denoiser.build_unet())
    tokens = train_denoiser._tokens(tokenizer, ["red hills at dawn"] * 8)
    printed = repr(student.unet)
    for linear in (False, True):
        noisy = torch.randn(8, 4, 8, 8)
        student.predict(noisy, torch.full((8,), 500), tokens, linear=linear).square().mean().backward()
        assert repr(student.unet) == printed
    assert all(parameter.grad is not None for parameter in student.parameters())


@pytest.mark.usefixtures("small_buckets")
def test_images_are_prepared_once_and_read_by_each_of_several_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """accelerate calls the device of several processes on a CPU "cpu:0"."""
    monkeypatch.setattr(train_denoiser, "BUCKETS", (Bucket(64, 64, 3, windows=False),))
    one_of_several = SimpleNamespace(device=torch.device("cpu", 0), main_process_first=nullcontext)
    effort = data.Effort(one_of_several)  # type: ignore[arg-type]
    vae, tokenizer = train_autoencoder.build().eval(), train_denoiser.build_tokenizer()
    first, second = (list(train_denoiser.prepare(tmp_path, vae, tokenizer, effort)) for _ in range(2))
    assert first[0] == "rendering and encoding 3 images of 64x64"
    assert isinstance(first[1], train_denoiser.Latents)
    assert isinstance(second[0], train_denoiser.Latents)
    assert first[1].latents.shape == (3, 4, 8, 8)
    assert torch.equal(first[1].latents, second[0].latents)
    assert torch.equal(first[1].tokens, second[0].tokens)


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
