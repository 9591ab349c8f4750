"""GroupNorm from statistics that were gathered row by row is torch's, whatever the bands."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from linfusion_cli.engine.streaming import group_norm
from linfusion_cli.engine.streaming.group_norm import Moments, Statistics, affine
from linfusion_cli.geometry import bands


def image(height: int, width: int, channels: int = 8) -> Tensor:
    generator = torch.Generator().manual_seed(height * width)
    return 100 + 3 * torch.randn(1, channels, height, width, generator=generator, dtype=torch.float64)


def gathered(values: Tensor, band_rows: int) -> Moments:
    statistics = Statistics(values.shape[2])
    for band in bands(values.shape[2], band_rows):
        statistics.add(values[:, :, band.rows])
    return statistics.moments()


def applied(values: Tensor, moments: Moments, norm: nn.GroupNorm) -> Tensor:
    scale, shift = moments.group_norm(norm)
    return values * scale.view(1, -1, 1, 1) + shift.view(1, -1, 1, 1)


@given(height=st.integers(2, 20), width=st.integers(1, 9), band_rows=st.integers(1, 21), learned=st.booleans())
@settings(deadline=None)
def test_it_is_torchs_group_norm(height: int, width: int, band_rows: int, learned: bool) -> None:
    norm = nn.GroupNorm(4, 8, affine=learned).double().requires_grad_(False)
    if learned:
        norm.weight.copy_(torch.linspace(0.5, 2, 8))
        norm.bias.copy_(torch.linspace(-1, 1, 8))
    values = image(height, width)
    assert torch.allclose(applied(values, gathered(values, band_rows), norm), norm(values))


def test_bands_do_not_change_a_bit() -> None:
    values = image(19, 7).float()
    whole = gathered(values, 19)
    for band_rows in (1, 4, 18):
        parts = gathered(values, band_rows)
        assert torch.equal(parts.mean, whole.mean)
        assert torch.equal(parts.variance, whole.variance)


def test_parts_that_fit_a_cache_do_not_change_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = image(64, 40, 16).float().contiguous(memory_format=torch.channels_last)
    whole = gathered(values, 64)
    for cache_bytes in (1, 5 * 40 * 16 * 4, 17 * 40 * 16 * 4):
        monkeypatch.setattr(group_norm, "CACHE_BYTES", cache_bytes)
        parts = gathered(values, 30)
        assert torch.equal(parts.mean, whole.mean)
        assert torch.equal(parts.variance, whole.variance)


def test_joined_moments_are_those_of_joined_channels() -> None:
    one, other = image(6, 5), image(6, 5, 4) * 2
    both, joined = gathered(torch.cat([one, other], 1), 2), gathered(one, 3).joined(gathered(other, 6))
    assert torch.allclose(both.mean, joined.mean)
    assert torch.allclose(both.variance, joined.variance)


def test_a_norm_needs_all_rows() -> None:
    statistics = Statistics(5)
    statistics.add(image(4, 3))
    with pytest.raises(AssertionError, match="all rows"):
        statistics.moments()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_rows_are_scaled_and_shifted_with_one_rounding(dtype: torch.dtype, layout: torch.memory_format) -> None:
    values = image(13, 9).to(dtype).contiguous(memory_format=layout)[:, :, 2:11]
    scale, shift = torch.randn(2, 8, dtype=torch.float64)
    exact = torch.promote_types(torch.float32, dtype)
    by_scale, by_shift = (each.to(exact).double().view(1, -1, 1, 1) for each in (scale, shift))
    wanted = (values.double() * by_scale + by_shift).to(dtype)
    found = affine(values, scale, shift)
    assert found.dtype == dtype
    assert torch.allclose(found.double(), wanted.double(), rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_a_norm_in_half_precision_is_as_exact_as_torchs(dtype: torch.dtype) -> None:
    """With scale and shift rounded to the activations' dtype the error is three times as large."""
    torch.manual_seed(0)
    values = image(37, 9).to(dtype).contiguous(memory_format=torch.channels_last)
    norm = nn.GroupNorm(4, 8).double()
    nn.init.normal_(norm.weight, std=2.0)
    nn.init.normal_(norm.bias, std=2.0)
    with torch.inference_mode():
        exact = norm(values.double())
        theirs = norm.to(dtype)(values).double()
        norm = norm.double()
        scale, shift = gathered(values.double(), 5).group_norm(norm)
        ours = affine(values, scale, shift)
        rounded = torch.addcmul(shift.to(dtype).view(1, -1, 1, 1), values, scale.to(dtype).view(1, -1, 1, 1))
    assert ours.dtype == dtype
    assert ours.is_contiguous(memory_format=torch.channels_last)
    error, torchs, before = (float((made.double() - exact).norm()) for made in (ours, theirs, rounded))
    assert error <= 1.05 * torchs
    assert error < before / 2
