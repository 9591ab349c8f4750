"""Latents of unit scale."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from safetensors.torch import load_file

from linfusion_cli.landscapes import train_autoencoder
from linfusion_cli.landscapes.data import Effort, Images
from linfusion_cli.models import builtin_folder
from linfusion_cli.training.schedule import Schedule

pytestmark = pytest.mark.slow


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


def test_discs_move_with_the_squares_that_are_cut() -> None:
    """A disc of one white pixel: wherever a square is cut, and mirrored or not, it stays on its pixel."""
    image = torch.zeros(1, 3, 512, 512, dtype=torch.uint8)
    image[..., 200, 260] = 255
    whole = Images(image, None, torch.tensor([[260.5, 200.5, 1.0]]), ("",), windows=False)
    seen = 0
    for index in range(40):
        batch, discs = train_autoencoder._batch({512: whole}, torch.Generator().manual_seed(index), 1)
        for square, (x, y, _) in zip(batch, discs.tolist(), strict=True):
            if 0 <= x < square.shape[-1] and 0 <= y < square.shape[-1]:
                assert square[0, int(y), int(x)] == 1
                seen += 1
    assert seen > 3


def test_a_decoder_that_is_trained_alone_leaves_the_latents_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train_autoencoder, "BUCKETS", ())
    scene = Images(torch.randint(0, 256, (8, 3, 64, 64), dtype=torch.uint8), None, torch.zeros(8, 3), ("",) * 8, False)
    monkeypatch.setattr(train_autoencoder, "_by_size", lambda _: {512: scene})
    monkeypatch.setattr(train_autoencoder, "CROPS", (train_autoencoder.Crop(32, 2, 1.0),))
    model = builtin_folder("builtin:landscape")
    assert model is not None
    effort = Effort(Accelerator(cpu=True))
    list(train_autoencoder.train(tmp_path, Schedule(2, 1e-3, warmup=1), effort, model, decoder_only=True))
    before, after = (load_file(path / "vae" / "diffusion_pytorch_model.safetensors") for path in (model, tmp_path))
    changed = {name.split(".")[0] for name, tensor in before.items() if not torch.equal(tensor, after[name])}
    assert changed == {"decoder", "post_quant_conv"}
