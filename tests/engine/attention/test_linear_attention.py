"""Linear attention equals the official module, its formula, and itself over any split of the tokens."""

import math
from pathlib import Path

import naive
import pytest
import torch
from golden import load_golden
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from linfusion_cli.engine.attention import linear_attention
from linfusion_cli.engine.attention.linear_attention import AttentionState, LinearAttention, feature_map


def random_attention(dim: int = 24, heads: int = 3, mid_dim: int | None = None) -> LinearAttention:
    torch.manual_seed(dim)
    return LinearAttention(dim, heads, mid_dim).eval()


@pytest.mark.parametrize("name", ["full", "low", "none"])
def test_equals_the_official_module(name: str, data: Path) -> None:
    tensors, config = load_golden(data / f"attention_{name}.safetensors")
    module = LinearAttention(config["query_dim"], config["heads"], config["projection_mid_dim"])
    module.load_state_dict({key[2:]: value for key, value in tensors.items() if key.startswith("w.")})
    assert torch.allclose(module(tensors["x"]), tensors["y"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("mid_dim", [None, 5, -1])
def test_equals_the_formula_in_float64(mid_dim: int | None) -> None:
    module = random_attention(mid_dim=mid_dim)
    x = torch.randn(1, 17, 24)
    expected = naive.linear_attention(module.double(), x[0].double(), heads=3)
    assert torch.allclose(module.float()(x)[0].double(), expected, atol=1e-5)


@given(tokens=st.integers(1, 60), block=st.integers(1, 64))
@settings(deadline=None, max_examples=30)
def test_block_size_changes_rounding_only(tokens: int, block: int) -> None:
    module, x = random_attention(), torch.randn(2, tokens, 24)
    whole = module(x)
    before, linear_attention.BLOCK_TOKENS = linear_attention.BLOCK_TOKENS, block
    try:
        assert torch.allclose(module(x), whole, atol=1e-5)
    finally:
        linear_attention.BLOCK_TOKENS = before


def test_states_of_bands_are_the_state_of_the_image() -> None:
    torch.manual_seed(0)
    module, x = random_attention(), torch.randn(1, 50, 24)
    whole = module.accumulate(x)
    state = AttentionState.empty(3, x)
    for band in (x[:, :20], x[:, 20:21], x[:, 21:]):
        module.accumulate(band, state)
    assert state.tokens == whole.tokens == 50
    assert torch.allclose(state.key_value, whole.key_value, rtol=1e-5, atol=1e-5)
    assert torch.allclose(module.attend(x[:, 7:9], state), module(x)[:, 7:9], atol=1e-5)


def test_half_precision_keeps_small_values_at_millions_of_tokens() -> None:
    """Scaling values by 1 / tokens in float16 would flush them to zero (the trap of fused kernels)."""
    state, exact = AttentionState.empty(1, torch.empty(1, 0, 8, dtype=torch.float16)), 0.02
    key = torch.ones(1, 1, 4096, 8, dtype=torch.float16)
    value = torch.full_like(key, exact)
    for _ in range(512):  # two million tokens
        state.add(key, value)
    out = state.read(torch.ones(1, 1, 1, 8, dtype=torch.float16))
    assert math.isclose(float(out.mean()), exact, rel_tol=2e-3)


def test_masks_and_cross_attention_are_refused() -> None:
    module, x = random_attention(), torch.randn(1, 4, 24)
    with pytest.raises(ValueError, match="mask"):
        module(x, attention_mask=torch.ones(1, 4))
    with pytest.raises(ValueError, match="self-attention"):
        module(x, encoder_hidden_states=torch.randn(1, 7, 24))


def test_autocast_leaves_the_sums_exact() -> None:
    torch.manual_seed(0)
    key, value = torch.rand(1, 2, 3000, 8), torch.randn(1, 2, 3000, 8)
    plain, under = AttentionState.empty(2, torch.empty(1, 1, 16)), AttentionState.empty(2, torch.empty(1, 1, 16))
    plain.add(key, value)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under.add(key, value)
        read = under.read(key)
    assert torch.equal(plain.key_value, under.key_value)
    assert torch.equal(plain.read(key), read)


PHIS = {"ours": feature_map, "elu + 1": lambda u: F.elu(u) + 1}


@pytest.mark.parametrize(("dtype", "most"), [(torch.float16, 6e-4), (torch.bfloat16, 5e-3)])
def test_phi_keeps_small_values_in_half_precision(dtype: torch.dtype, most: float) -> None:
    """elu(u) + 1 loses them: its rounding is relative to 1."""
    u = torch.linspace(-6, 4, 4001).to(dtype)
    exact = torch.where(u.double() > 0, u.double() + 1, u.double().exp())
    errors = {name: float((phi(u).double() / exact - 1).abs().max()) for name, phi in PHIS.items()}
    assert errors["ours"] <= most < errors["elu + 1"] / 10


def test_phi_in_float32_is_the_official_one_bit_by_bit() -> None:
    u = torch.linspace(-20, 20, 4001)
    assert torch.equal(feature_map(u), F.elu(u) + 1)
    half = u.bfloat16().requires_grad_()
    feature_map(half).sum().backward()
    assert half.grad is not None
    slope = half.detach().double().clamp(max=0).exp()  # at 0 itself both sides of the kink count
    assert torch.allclose(half.grad.double()[half != 0], slope[half != 0], rtol=2e-2, atol=1e-6)
