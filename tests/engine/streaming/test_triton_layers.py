"""Norms and GEGLU in one kernel equal the plain operators, in Triton's interpreter: only `pip install triton`."""

import pytest
import torch
from diffusers.models.attention import FeedForward
from torch.nn import functional as F

from linfusion_cli.engine.attention.fused_attention import has_triton
from linfusion_cli.engine.streaming import fused_layers
from linfusion_cli.engine.streaming.fused_layers import affine, feed_forward, gated, row_moments
from linfusion_cli.engine.streaming.group_norm import Statistics
from linfusion_cli.engine.streaming.group_norm import affine as plain_affine

pytestmark = pytest.mark.skipif(not has_triton(), reason="Triton is not installed")
ALLOWED = {torch.float32: 2e-6, torch.float16: 1e-3}  # of the largest value
LAYOUTS = (torch.contiguous_format, torch.channels_last)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one.double() - other.double()).abs().max() / other.double().abs().max())


def rows_of(
    channels: int, width: int, dtype: torch.dtype, layout: torch.memory_format, mean: float = 0
) -> torch.Tensor:
    torch.manual_seed(channels + width)
    return (torch.randn(1, channels, 4, width) + mean).to(dtype).to(memory_format=layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ALLOWED)
@pytest.mark.parametrize(("channels", "width", "mean"), [(1, 1, 0), (70, 33, 0), (64, 100, 50)])
def test_statistics(channels: int, width: int, mean: float, dtype: torch.dtype, layout: torch.memory_format) -> None:
    """A mean far from zero takes no digits from the deviations."""
    rows = rows_of(channels, width, dtype, layout, mean)
    exact = rows[0].double().permute(1, 2, 0)
    means, deviations = row_moments(rows[0].permute(1, 2, 0))
    assert means.dtype == deviations.dtype == torch.float32
    assert apart(means, exact.mean(1)) <= 1e-6
    assert torch.allclose(deviations.double(), (exact - exact.mean(1, keepdim=True)).square().sum(1), rtol=2e-5)


@pytest.mark.parametrize("parts", [(1, 3), (2, 2), (4,)])
def test_statistics_do_not_depend_on_the_bands(parts: tuple[int, ...]) -> None:
    rows = rows_of(20, 50, torch.float16, torch.channels_last)
    whole, banded, plain = (Statistics(4, fused=fused) for fused in (True, True, False))
    whole.add(rows)
    plain.add(rows)
    for part in rows.split(parts, dim=2):
        banded.add(part)
    assert torch.equal(whole.moments().mean, banded.moments().mean)
    assert torch.equal(whole.moments().variance, banded.moments().variance)
    assert apart(whole.moments().variance, plain.moments().variance) <= 1e-6


@pytest.mark.parametrize("silu", [True, False])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ALLOWED)
def test_application(dtype: torch.dtype, layout: torch.memory_format, silu: bool) -> None:
    rows = rows_of(70, 33, dtype, layout)
    scale, shift = torch.randn(2, 70, dtype=torch.float64)
    found, plain = affine(rows, scale, shift, silu=silu), plain_affine(rows, scale, shift)
    assert found.dtype == dtype
    assert found.stride() == rows.stride()
    assert apart(found, F.silu(plain) if silu else plain) <= ALLOWED[dtype]
    band = rows[:, :, 1:3]  # lies apart from its neighbours in no layout of its own
    assert torch.equal(affine(band, scale, shift, silu=silu), found[:, :, 1:3])


@pytest.mark.parametrize("dtype", ALLOWED)
def test_geglu(dtype: torch.dtype) -> None:
    values = rows_of(2, 140, dtype, torch.contiguous_format)[0]
    kept, gate = values.double().chunk(2, dim=-1)
    assert apart(gated(values), kept * F.gelu(gate)) <= ALLOWED[dtype]


@torch.inference_mode()
def test_a_feed_forward_layer() -> None:
    torch.manual_seed(1)
    layers, tokens = FeedForward(24), torch.randn(1, 50, 24)
    assert apart(feed_forward(layers, tokens, fused=True), layers(tokens)) <= 2e-6


def test_the_trial_finds_right_kernels_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_layers, "can_fuse", lambda values: True)
    assert fused_layers.fault_of(torch.device("cpu"), torch.float16) == ""
