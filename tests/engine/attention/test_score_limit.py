"""Attention in parts of its queries is the same, whoever calls it, and no part has more scores than allowed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from golden import golden_unet, load_golden
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from linfusion_cli.engine.attention import score_limit
from linfusion_cli.engine.attention.score_limit import limited_scores

MOST = 4000


class Largest(TorchFunctionMode):
    """Keeps the most scores that one call has."""

    scores = 0

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is F.scaled_dot_product_attention:
            query, key = args[:2]
            self.scores = max(self.scores, query[..., 0].numel() * key.shape[-2])
        return function(*args, **(kwargs or {}))


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_limit, "MOST_SCORES", MOST)


@pytest.mark.parametrize("masks", [None, (1, 1, 1, 77), (1, 1, 300, 77)])
def test_parts_are_the_whole(masks: tuple[int, ...] | None) -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 3, 300, 8), torch.randn(2, 3, 77, 8)
    mask = None if masks is None else torch.randn(masks)
    whole = F.scaled_dot_product_attention(query, key, key, mask, scale=0.3)
    with Largest() as seen, limited_scores(limited=True):
        parts = F.scaled_dot_product_attention(query, key, key, attn_mask=mask, scale=0.3)
    assert torch.allclose(parts, whole, atol=1e-6)
    assert 0 < seen.scores <= MOST


def test_a_causal_attention_is_left_whole() -> None:
    query = torch.randn(1, 3, 100, 8)
    whole = F.scaled_dot_product_attention(query, query, query, is_causal=True)
    with limited_scores(limited=True):
        assert torch.equal(F.scaled_dot_product_attention(query, query, query, is_causal=True), whole)


@torch.inference_mode()
def test_a_unet_with_softmax_attention() -> None:
    unet = golden_unet(*load_golden(Path(__file__).parents[2] / "data" / "unet_sd15.safetensors"))
    latents, text = torch.randn(1, 4, 16, 16), torch.randn(1, 7, unet.config.cross_attention_dim)
    expected = unet(latents, 500, text).sample
    with Largest() as seen, limited_scores(limited=True):
        found = unet(latents, 500, text).sample
    assert torch.allclose(found, expected, atol=1e-5)
    assert 0 < seen.scores <= MOST
    with Largest() as seen, limited_scores(limited=False):
        unet(latents, 500, text)
    assert seen.scores > MOST
