"""The chunked scan equals the recurrence written out, for one decay per head or per channel, with and without bonus."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from linfusion_cli.distill.decayed_scan import CHUNK_TOKENS, decayed_scan

pytestmark = pytest.mark.slow  # all of them together


def naive_scan(query: Tensor, key: Tensor, value: Tensor, log_decay: Tensor, bonus: Tensor | None) -> Tensor:
    """One token at a time, from the papers' equations."""
    state = torch.zeros(*key.shape[:2], key.shape[-1], value.shape[-1], dtype=value.dtype)
    read = []
    for t in range(key.shape[2]):
        written = key[:, :, t, :, None] * value[:, :, t, None, :]
        decayed = log_decay[:, :, t].exp().unsqueeze(-1) * state
        if bonus is None:
            state = decayed + written
            read.append((query[:, :, t, None, :] @ state).squeeze(2))
        else:
            read.append((query[:, :, t, None, :] @ (state + bonus.unsqueeze(-1) * written)).squeeze(2))
            state = decayed + written
    return torch.stack(read, dim=2)


@given(
    tokens=st.integers(1, 3 * CHUNK_TOKENS),
    per_channel=st.booleans(),
    with_bonus=st.booleans(),
    strength=st.sampled_from([1e-4, 0.1, 3.0, 40.0]),
)
@settings(max_examples=25, deadline=None)
def test_chunks_equal_the_recurrence(tokens: int, per_channel: bool, with_bonus: bool, strength: float) -> None:
    draw = torch.Generator().manual_seed(tokens)
    query, key, value = torch.randn(3, 2, 3, tokens, 4, dtype=torch.float64, generator=draw)
    width = 4 if per_channel else 1
    log_decay = -strength * torch.rand(2, 3, tokens, width, dtype=torch.float64, generator=draw)
    bonus = torch.randn(3, 4, dtype=torch.float64, generator=draw) if with_bonus else None
    fast = decayed_scan(query, key, value, log_decay, bonus)
    assert torch.allclose(fast, naive_scan(query, key, value, log_decay, bonus), atol=1e-9)


def test_without_decay_it_is_a_running_sum() -> None:
    query, key, value = torch.rand(3, 1, 1, 200, 4, dtype=torch.float64)
    sums = (key.unsqueeze(-1) * value.unsqueeze(-2)).cumsum(2)
    expected = (query.unsqueeze(-2) @ sums).squeeze(-2)
    assert torch.allclose(decayed_scan(query, key, value, torch.zeros(1, 1, 200, 1, dtype=torch.float64)), expected)


def test_half_precision_is_summed_in_float32() -> None:
    query, key, value = torch.rand(3, 1, 1, 500, 4).bfloat16()
    half = decayed_scan(query, key, value, torch.zeros(1, 1, 500, 1).bfloat16())
    whole = decayed_scan(query.float(), key.float(), value.float(), torch.zeros(1, 1, 500, 1))
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), whole, rtol=0.01)
