"""The recipe: Muon's matrices, a run that goes on where it stopped, latents of unit scale, an exported pipeline."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from linfusion_cli.landscapes import autoencoder, denoiser
from linfusion_cli.landscapes.data import Bucket, Pictures, _render_batch
from linfusion_cli.landscapes.muon import muon_for, orthogonal
from linfusion_cli.landscapes.training import Run, Schedule


@pytest.mark.parametrize("shape", [(8, 30), (30, 8), (12, 12)])
def test_updates_are_nearly_orthogonal(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape)))
    assert values.max() < 1.3
    assert values.min() > 0.3


def model_and_run(folder: Path, steps: int) -> tuple[nn.Module, Run]:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    return model, Run(folder, model, muon_for(model, outer=("2.",)), Schedule(steps, 0.01, warmup=2))


def loss_for(model: nn.Module):
    def loss_of(step: int) -> tuple[Tensor, dict[str, float]]:
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = (model(x) - x.sum(1, keepdim=True)).square().mean()
        return loss, {"loss": float(loss.detach())}

    return loss_of


def test_a_run_learns_and_resumes_exactly(tmp_path: Path) -> None:
    whole, run = model_and_run(tmp_path / "whole", 60)
    before = loss_for(whole)(999)[0].item()
    list(run.train(loss_for(whole)))
    assert loss_for(whole)(999)[0].item() < before / 2

    model, run = model_and_run(tmp_path / "parts", 60)
    stop = loss_for(model)

    def until_30(step: int) -> tuple[Tensor, dict[str, float]]:
        if step == 30:
            raise KeyboardInterrupt
        return stop(step)

    with pytest.raises(KeyboardInterrupt):
        list(run.train(until_30, save_every=0.0))
    again, run = model_and_run(tmp_path / "parts", 60)
    assert run.step == 30
    list(run.train(loss_for(again)))
    for ours, theirs in zip(again.parameters(), whole.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_loss_that_is_not_a_number_stops_the_run(tmp_path: Path) -> None:
    model, run = model_and_run(tmp_path, 10)
    with pytest.raises(FloatingPointError, match="step 0"):
        list(run.train(lambda step: (sum(p.sum() for p in model.parameters()) * float("nan"), {})))


def test_batches_do_not_depend_on_the_process() -> None:
    bucket = Bucket(16, 24, 6, windows=True)
    first, second = (_render_batch((bucket, 3, 0)) for _ in range(2))
    assert isinstance(first, Pictures)
    assert torch.equal(first.images, second.images)
    assert first.captions == second.captions
    assert first.images.shape == (6, 3, 16, 24)


def test_standardised_latents_have_unit_scale_and_decode_the_same() -> None:
    torch.manual_seed(0)
    vae = autoencoder.build().eval()
    images = torch.randint(0, 256, (6, 3, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        x = images.float() / 127.5 - 1
        before = vae.decode(vae.encode(x).latent_dist.mean).sample
        autoencoder.standardise(vae, images)
        latents = vae.encode(x).latent_dist.mean
        after = vae.decode(latents).sample
    assert torch.allclose(latents.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(latents.std((0, 2, 3)), torch.ones(4), atol=1e-3)
    assert torch.allclose(before, after, atol=1e-4)


def test_one_step_trains_both_attentions_and_leaves_nothing_mounted() -> None:
    torch.manual_seed(0)
    tokenizer = denoiser.build_tokenizer()
    student = denoiser.Student(denoiser.build_text_encoder(tokenizer), denoiser.build_unet())
    tokens = denoiser._tokens(tokenizer, ["red hills at dawn"] * 8)
    printed = repr(student.unet)
    for linear in (False, True):
        noisy = torch.randn(8, 4, 8, 8)
        student.predict(noisy, torch.full((8,), 500), tokens, linear=linear).square().mean().backward()
        assert repr(student.unet) == printed
    assert all(parameter.grad is not None for parameter in student.parameters())
