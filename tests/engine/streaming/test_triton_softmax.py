"""The kernel of the autoencoder's attention equals softmax, in Triton's interpreter: only `pip install triton`."""

import pytest
import torch

from linfusion_cli.engine.attention.fused_attention import has_triton
from linfusion_cli.engine.streaming import fused_softmax
from linfusion_cli.engine.streaming.vae_attention import RunningSoftmax

pytestmark = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
ALLOWED = 1e-3  # of the largest value, in float16


def inputs(queries: int, keys: int, dim: int, size: float = 1.0) -> list[torch.Tensor]:
    torch.manual_seed(queries + keys + dim)
    return [size * torch.randn(1, count, dim, dtype=torch.float64) for count in (queries, keys, keys)]


def attended(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, parts: list[int], *, fused: bool
) -> RunningSoftmax:
    online = RunningSoftmax.empty(query.half(), query.shape[-1] ** -0.5, fused=fused)
    for keys, values in zip(key.half().split(parts, dim=1), value.half().split(parts, dim=1), strict=True):
        online.add(keys, values)
    return online


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max() / other.double().abs().max())


@pytest.mark.parametrize(
    ("queries", "parts", "dim"),
    [(1, [1], 8), (70, [33, 7, 60], 96), (65, [100], 130), (40, [90, 10], 512), (130, [31], 300)],
)
def test_equal_to_softmax_and_to_the_plain_operators(queries: int, parts: list[int], dim: int) -> None:
    """512 is the width of the head in SD's autoencoders: two programs make the columns of a result."""
    query, key, value = inputs(queries, sum(parts), dim)
    exact = torch.softmax(query @ key.transpose(1, 2) * dim**-0.5, dim=2) @ value
    fused, plain = (attended(query, key, value, parts, fused=fused) for fused in (True, False))
    assert fused.result().dtype == torch.float16
    assert apart(fused.result(), exact) <= 2 * ALLOWED
    assert apart(fused.result(), plain.result()) <= ALLOWED
    assert apart(fused.total, plain.total) <= 1e-5
    assert apart(fused.highest, plain.highest) <= 1e-5


def test_large_scores_stay_finite() -> None:
    """Scores of hundreds, whose exp() alone would overflow."""
    query, key, value = inputs(20, 50, 64, size=12)
    fused = attended(query, key, value, [30, 20], fused=True)
    assert float(fused.highest.max()) > 100
    assert apart(fused.result(), attended(query, key, value, [30, 20], fused=False).result()) <= ALLOWED


def test_keys_in_parts_and_queries_in_parts_are_the_whole() -> None:
    query, key, value = inputs(100, 64, 40)
    whole = attended(query, key, value, [64], fused=True).result()
    for part in (slice(0, 64), slice(64, 100)):
        assert torch.equal(attended(query[:, part], key, value, [32, 32], fused=True).result(), whole[:, part])


def test_the_trial_finds_a_right_kernel_right() -> None:
    assert apart(*fused_softmax._pair(torch.device("cpu"), torch.float16, 48)) <= 2 * ALLOWED
