"""One step trains both attentions; latents are prepared once."""

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from linfusion_cli.landscapes import data, lessons, train_autoencoder, train_denoiser
from linfusion_cli.landscapes.data import Bucket

pytestmark = pytest.mark.slow


def test_one_step_trains_both_attentions_and_leaves_nothing_mounted() -> None:
    torch.manual_seed(0)
    tokenizer = train_denoiser.build_tokenizer()
    student = train_denoiser.Student(train_denoiser.build_text_encoder(tokenizer), train_denoiser.build_unet())
    tokens = train_denoiser.token_ids(tokenizer, ["red hills at dawn"] * 8)
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
    given = tmp_path, vae, tokenizer, effort, train_denoiser.BUCKETS
    first, second = (list(train_denoiser.prepare(*given)) for _ in range(2))
    assert first[0] == "rendering and encoding 3 images of 64x64"
    assert isinstance(first[1], train_denoiser.Latents)
    assert isinstance(second[0], train_denoiser.Latents)
    assert first[1].latents.shape == (3, 4, 8, 8)
    assert torch.equal(first[1].latents, second[0].latents)
    assert torch.equal(first[1].tokens, second[0].tokens)


def test_windows_get_the_share_that_was_asked_for() -> None:
    """The recipe's own share leaves its shares; another one keeps their proportions within each kind."""
    buckets = [
        train_denoiser.Latents(torch.zeros(1), torch.zeros(1), windows=bucket.windows)
        for bucket in train_denoiser.BUCKETS
    ]
    usual = torch.tensor(train_denoiser.SHARES)
    assert torch.allclose(train_denoiser.shares_of(buckets, 0.26), usual)
    assert pytest.approx(sum(lessons.WINDOW_SHARES)) == lessons.WINDOW_SHARE
    assert sum(train_denoiser.SHARES) == pytest.approx(1)
    more = train_denoiser.shares_of(buckets, 0.73)
    windows = torch.tensor([bucket.windows for bucket in buckets])
    assert float(more[windows].sum()) == pytest.approx(0.73)
    assert float(more.sum()) == pytest.approx(1)
    assert torch.allclose(more[windows] / more[windows][0], usual[windows] / usual[windows][0])


def test_where_an_image_is_composed_the_kept_models_prediction_is_learned() -> None:
    """Elsewhere the noise; a student that is still the kept model has no error where it composes."""
    torch.manual_seed(2)
    tokenizer = train_denoiser.build_tokenizer()
    student, kept = (
        train_denoiser.Student(train_denoiser.build_text_encoder(tokenizer), train_denoiser.build_unet())
        for _ in range(2)
    )
    kept.load_state_dict(student.state_dict())
    kept.frozen(torch.device("cpu"))
    tokens = train_denoiser.token_ids(tokenizer, ["red hills at dawn"] * 3)
    noise, noisy = torch.randn(2, 3, 4, 8, 8)
    steps = torch.tensor([train_denoiser.WINDOW_TIMESTEPS - 1, train_denoiser.WINDOW_TIMESTEPS, 999])
    for linear in (False, True):
        batches = train_denoiser.Batches([], torch.ones(1), torch.ones(1), tokens[:1], 1, 0.5, kept)
        target = batches._target(noise, noisy, steps, tokens, linear=linear)
        assert torch.equal(target[0], noise[0])
        assert torch.allclose(target[1:], student.predict(noisy, steps, tokens, linear=linear)[1:], atol=1e-5)
        assert not target.requires_grad
        alone = train_denoiser.Batches([], torch.ones(1), torch.ones(1), tokens[:1], 1, 0.5)
        assert alone._target(noise, noisy, steps, tokens, linear=linear) is noise


def test_errors_at_a_disc_count_more_where_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of windows with discs in view; the weights are those of disc_weights, in latents."""
    seen: list[torch.Tensor] = []

    def twice(discs: torch.Tensor, *shape: int) -> torch.Tensor:
        seen.append(discs)
        return torch.full((len(discs), 1, *shape), 2.0)

    monkeypatch.setattr(train_denoiser, "disc_weights", twice)
    nothing = SimpleNamespace(predict=lambda noisy, timesteps, tokens, linear: torch.zeros_like(noisy))
    alphas = train_denoiser.build_scheduler().alphas_cumprod

    def loss(*, discs_first: bool, discs: torch.Tensor | None) -> float:
        bucket = train_denoiser.Latents(
            torch.ones(2, 4, 64, 64), torch.zeros(2, 3, dtype=torch.long), windows=True, discs=discs
        )
        empty = torch.zeros(1, 3, dtype=torch.long)
        batches = train_denoiser.Batches([bucket], torch.ones(1), alphas, empty, 1, 1.0, discs_first=discs_first)
        found, _ = batches.loss(nothing, torch.Generator().manual_seed(3))  # type: ignore[arg-type]
        return float(found)

    discs = torch.tensor([[3.0, 4.0, 2.0], [0.0, 0.0, 0.0]])
    plain = loss(discs_first=False, discs=discs)
    assert loss(discs_first=True, discs=None) == plain
    assert seen == []
    assert loss(discs_first=True, discs=discs) == pytest.approx(2 * plain)
    assert {tuple(row) for row in seen[0].tolist()} <= {tuple(row) for row in discs.tolist()}
