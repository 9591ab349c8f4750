"""Fused norms and GEGLU: where they may run, what a trial finds wrong, and bands that use them as the store says."""

from copy import deepcopy
from typing import Any

import pytest
import torch
from diffusers.models.attention import FeedForward
from plain_kernels import affine, gated, row_moments
from tiny import mounted, tiny_vae
from torch import Tensor

from linfusion_cli.engine.attention.fused_attention import has_triton
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.weight_offload import Weights
from linfusion_cli.engine.streaming import fused_layers
from linfusion_cli.engine.streaming.banded_unet import BandedUNet
from linfusion_cli.engine.streaming.banded_vae import Sweeper
from linfusion_cli.engine.streaming.fused_layers import can_fuse, fault_of, feed_forward

CPU = torch.device("cpu")


def wrong(values: Tensor) -> Tensor:
    return gated(values) * 1.1


def failing(values: Tensor) -> Tensor:
    raise RuntimeError("ptxas: unsupported architecture\nand its whole output")


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are called; without Triton, plain operators stand for them."""
    calls: list[str] = []
    for plain in (row_moments, affine, gated):
        name = plain.__name__
        own = getattr(fused_layers, name) if has_triton() else plain

        def called(*given: Any, name: str = name, own: Any = own, **more: Any) -> Any:
            calls.append(name)
            return own(*given, **more)

        monkeypatch.setattr(fused_layers, name, called)
    monkeypatch.setattr(fused_layers, "can_fuse", lambda values: True)
    return calls


def test_only_cards_with_triton_run_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not can_fuse(torch.empty(1))
    monkeypatch.setattr(fused_layers, "has_triton", lambda: False)
    assert fault_of(CPU, torch.float16) == "no Triton"
    monkeypatch.setattr(fused_layers, "has_triton", lambda: True)
    assert fault_of(CPU, torch.float64) == "no kernels for torch.float64"


@pytest.mark.parametrize(
    ("kernel", "fault"), [(gated, ""), (wrong, "off by"), (failing, "RuntimeError: ptxas: unsupported architecture")]
)
def test_a_trial_finds_what_is_wrong(kernel: Any, fault: str, used: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_layers, "gated", kernel)
    found = fault_of(CPU, torch.float16)
    assert found.startswith(fault) if fault != "off by" else fault in found
    assert bool(found) == bool(fault)
    assert "\n" not in found


@torch.inference_mode()
@pytest.mark.parametrize("activation", ["geglu", "gelu"])
def test_only_geglu_is_fused(activation: str, used: list[str]) -> None:
    layers, tokens = FeedForward(8, activation_fn=activation), torch.randn(1, 5, 8)
    assert torch.allclose(feed_forward(layers, tokens, fused=True), layers(tokens), atol=1e-6)
    assert used == ["gated"] * (activation == "geglu")
    assert torch.equal(feed_forward(layers, tokens, fused=False), layers(tokens))


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("band_rows", [3, 100])
def test_a_unet_in_bands_gives_the_same(band_rows: int, used: list[str]) -> None:
    shared, tensors = mounted("sd15")
    unet = deepcopy(shared).float()  # other tests have it in float64
    torch.manual_seed(0)
    sample, text = torch.randn(1, 4, 13, 9), tensors["encoder_hidden_states"][:1].float()

    def run(*, fused: bool) -> Tensor:
        store = ActivationStore.unlimited(CPU)
        store.fused = fused
        return BandedUNet(unet, band_rows, store, Weights(CPU, resident=True))(sample, torch.tensor(321), text, None, 1)

    plain = run(fused=False)
    assert used == []
    found = run(fused=True)
    assert set(used) == {"row_moments", "affine", "gated"}
    assert float((found - plain).abs().max() / plain.abs().max()) < 1e-5


@pytest.mark.slow
@torch.inference_mode()
@pytest.mark.parametrize("band_px", [7, 1000])
def test_an_autoencoder_in_bands_gives_the_same(band_px: int, used: list[str]) -> None:
    vae, latents = tiny_vae(attention=True), torch.randn(1, 4, 9, 6)

    def run(*, fused: bool) -> Tensor:
        store = ActivationStore.unlimited(CPU)
        store.fused = fused
        keep = ("sums", *["all"] * (len(vae.config.block_out_channels) - 1))
        parts = Sweeper(vae, band_px, keep, 10**6, store, lambda _: None).decode(latents)
        return torch.cat([rows for _, rows in parts], dim=2)

    plain, found = run(fused=False), run(fused=True)
    assert set(used) == {"row_moments", "affine"}
    assert float((found - plain).abs().max() / plain.abs().max()) < 1e-5
