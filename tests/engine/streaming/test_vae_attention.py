"""The autoencoder's attention in parts equals softmax over everything it sees, whole image or window."""

from types import SimpleNamespace

import pytest
import torch
from diffusers.models.attention_processor import Attention
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming import vae_attention
from linfusion_cli.engine.streaming.row_source import Parked, sweep
from linfusion_cli.engine.streaming.vae_attention import Attended

STORE = ActivationStore.unlimited(torch.device("cpu"))


def attention() -> Attention:
    torch.manual_seed(0)
    return Attention(8, heads=1, dim_head=8, bias=True).double().eval()


def naive(module: Attention, image: torch.Tensor, top: int, bottom: int, first: int, last: int) -> torch.Tensor:
    """Queries of rows top..bottom over keys of rows first..last."""
    tokens = image[0].permute(1, 2, 0)
    query, keys = tokens[top:bottom].flatten(0, 1), tokens[first:last].flatten(0, 1)
    weights = torch.softmax(module.to_q(query) @ module.to_k(keys).T * module.scale, dim=1)
    return module.to_out[0](weights @ module.to_v(keys)).unflatten(0, (bottom - top, -1)).permute(2, 0, 1)


@pytest.mark.slow
@given(height=st.integers(1, 12), width=st.integers(1, 9), band=st.integers(1, 13), scores=st.integers(1, 500))
@settings(deadline=None, max_examples=40)
@torch.no_grad()
def test_in_parts_it_is_the_whole(height: int, width: int, band: int, scores: int) -> None:
    module, image = attention(), 3 * torch.randn(1, 8, height, width, dtype=torch.float64)
    before, vae_attention.SCORES = vae_attention.SCORES, scores
    try:
        rows = torch.cat(
            [rows for _, rows in sweep(Attended(Parked.of(image), module, height * width), band, STORE)], dim=2
        )
    finally:
        vae_attention.SCORES = before
    assert torch.allclose(rows[0], naive(module, image, 0, height, 0, height), atol=1e-12)


@torch.no_grad()
@pytest.mark.parametrize("band", [1, 2, 3, 5, 12])
def test_a_window_is_around_its_block_whatever_the_band(band: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_attention, "BLOCK_ROWS", 2)
    module, image = attention(), torch.randn(1, 8, 12, 5, dtype=torch.float64)
    field = Attended(Parked.of(image), module, window=30)  # six rows
    rows = torch.cat([rows for _, rows in sweep(field, band, STORE)], dim=2)
    for top, first in [(0, 0), (4, 2), (10, 6)]:
        assert torch.allclose(
            rows[0, :, top : top + 2], naive(module, image, top, top + 2, first, first + 6), atol=1e-12
        )


def test_scores_in_half_precision_are_not_rounded_before_the_softmax() -> None:
    torch.manual_seed(1)
    query, key = (4 * torch.randn(1, 40, 64).bfloat16() for _ in range(2))
    exact = query.double() @ key.double().transpose(1, 2)
    scores = vae_attention.products(query, key)
    assert scores.dtype == torch.float32
    assert (scores - exact).abs().max() < 1e-3 < (query @ key.transpose(1, 2) - exact).abs().max()
    wide = query.double()
    assert torch.equal(vae_attention.products(wide, wide), wide @ wide.transpose(1, 2))


def test_a_card_multiplies_in_half_precision_and_sums_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On the meta device, under the name of a card: nothing is computed, the call is."""
    asked: list[object] = []
    monkeypatch.setattr(torch, "bmm", lambda query, keys, out_dtype: asked.append((query.dtype, keys.shape, out_dtype)))
    query = SimpleNamespace(dtype=torch.float16, device=torch.device("cuda:0"))
    vae_attention.products(query, torch.zeros(1, 5, 8, dtype=torch.float16))  # type: ignore[arg-type]
    assert asked == [(torch.float16, (1, 8, 5), torch.float32)]
