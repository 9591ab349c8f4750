"""The two kernels equal the plain operators, in Triton's interpreter: no card is needed, only `pip install triton`."""

import pytest
import torch

from linfusion_cli.engine.attention.fused_attention import add_keys, has_triton, read
from linfusion_cli.engine.attention.linear_attention import AttentionState, feature_map

needs_triton = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
ALLOWED = {torch.float32: 2e-6, torch.float16: 1e-3}  # of the largest value: float16 rounds to a two-thousandth


def inputs(batch: int, tokens: int, heads: int, dim: int, dtype: torch.dtype) -> list[torch.Tensor]:
    torch.manual_seed(tokens + dim)
    query, key, value = (torch.randn(batch, tokens, heads * dim) * 2 for _ in range(3))
    return [x.to(dtype) for x in (query, key, value)]


def split(x: torch.Tensor, heads: int) -> torch.Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def plain_state(key: torch.Tensor, value: torch.Tensor, heads: int) -> AttentionState:
    state = AttentionState.empty(heads, key)
    state.add(feature_map(split(key, heads)), split(value, heads))
    return state


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max() / other.double().abs().max())


@needs_triton
@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize(
    ("batch", "tokens", "heads", "dim"),
    [(1, 1, 1, 8), (2, 65, 3, 24), (1, 130, 2, 40), (1, 70, 1, 64), (1, 40, 1, 80), (1, 33, 1, 160)],
)
def test_equal_to_the_plain_operators(batch: int, tokens: int, heads: int, dim: int, dtype: torch.dtype) -> None:
    """The widths of SD-v1.5's heads are 40, 80 and 160, of the other families' 64."""
    query, key, value = inputs(batch, tokens, heads, dim, dtype)
    truth, state = plain_state(key, value, heads), AttentionState.empty(heads, key)
    add_keys(state, key, value)
    assert state.tokens == truth.tokens == tokens
    assert apart(state.key_value, truth.key_value) <= 2e-6
    assert apart(state.key, truth.key) <= 2e-6
    found = read(state, query)
    expected = truth.read(feature_map(split(query, heads))).transpose(1, 2).flatten(2)
    assert found.dtype == dtype
    assert found.shape == expected.shape
    assert apart(found, expected) <= ALLOWED[dtype]


@needs_triton
def test_blocks_together_and_in_parts() -> None:
    """A row's sum does not depend on the rows that arrive with it."""
    _, key, value = inputs(1, 300, 2, 16, torch.float16)
    truth, state, parts = plain_state(key, value, 2), AttentionState.empty(2, key), AttentionState.empty(2, key)
    add_keys(state, key, value, 5)
    for first, last in ((0, 120), (120, 180), (180, 300)):
        add_keys(parts, key[:, first:last], value[:, first:last], (last - first) // 60)
    assert apart(state.key_value, truth.key_value) <= 2e-6
    assert torch.equal(state.key_value, parts.key_value)
    assert torch.equal(state.key, parts.key)
    assert parts.tokens == 300


@needs_triton
def test_small_values_of_phi_are_not_lost() -> None:
    """From -6 to -4 elu(u) + 1 rounds away, in half precision."""
    key = torch.linspace(-6, -4, 64 * 16).view(1, 64, 16).half()
    state = AttentionState.empty(1, key)
    add_keys(state, key, torch.ones_like(key))
    exact = key.double().exp().sum(1)
    assert float((state.key[0, 0] / exact[0] - 1).abs().max()) < 1e-3
