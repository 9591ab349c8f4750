"""The two bands add up, and the low one holds what is coarse."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.engine.sampling.frequency_bands import low_band, with_low_band_of

pytestmark = pytest.mark.slow  # all of them together


def naive_low_band(latents: Tensor, scale: float) -> Tensor:
    """Triangle weights written out, one output latent at a time (float64)."""
    for axis in (2, 3):
        small = max(2, round(latents.shape[axis] * scale))
        latents = _resampled(_resampled(latents, axis, small), axis, latents.shape[axis])
    return latents


def _resampled(latents: Tensor, axis: int, target: int) -> Tensor:
    source = latents.shape[axis]
    step = source / target
    width = max(1.0, step)
    columns = []
    for index in range(target):
        centre = (index + 0.5) * step - 0.5
        if step < 1:  # enlarging reads beyond the border as the border
            centre = min(max(centre, 0.0), source - 1.0)
        weights = [max(0.0, 1 - abs(position - centre) / width) for position in range(source)]
        picked = sum(w * latents.select(axis, i) for i, w in enumerate(weights)) / sum(weights)
        columns.append(picked)
    return torch.stack(columns, dim=axis)


@given(st.integers(1, 24), st.integers(1, 24), st.sampled_from([1 / 8, 1 / 4, 1 / 2, 0.3, 1.0]))
@settings(max_examples=40, deadline=None)
def test_the_low_band_equals_the_filter_written_out(height: int, width: int, scale: float) -> None:
    latents = torch.randn(1, 2, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(height))
    assert torch.allclose(low_band(latents, scale), naive_low_band(latents, scale), atol=1e-9)


def test_what_is_coarse_stays_and_what_is_fine_goes() -> None:
    across = torch.arange(64, dtype=torch.float64)
    coarse = torch.cos(2 * math.pi * across / 64).expand(1, 1, 64, 64)
    fine = torch.cos(math.pi * across).expand(1, 1, 64, 64)
    inner = slice(8, -8)
    assert (low_band(coarse, 1 / 4) - coarse)[..., inner].abs().max() < 0.06
    assert low_band(fine, 1 / 4)[..., inner].abs().max() < 0.02


def test_a_joined_image_has_the_low_band_of_one_and_the_high_band_of_the_other() -> None:
    reference, latents = torch.randn(2, 1, 4, 32, 24, dtype=torch.float64)
    joined = with_low_band_of(reference, latents, 1 / 8)
    assert torch.allclose(joined, latents - low_band(latents, 1 / 8) + low_band(reference, 1 / 8), atol=1e-12)
    assert torch.allclose(with_low_band_of(latents, latents, 1 / 8), latents, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_and_dtype_stay(dtype: torch.dtype) -> None:
    assert low_band(torch.ones(2, 4, 9, 7, dtype=dtype), 0.25).dtype == dtype
    flat = torch.ones(2, 4, 9, 7, dtype=dtype)
    assert torch.allclose(low_band(flat, 0.25), flat, atol=1e-6)
    assert F.mse_loss(low_band(torch.zeros(1, 1, 2, 2), 0.01), torch.zeros(1, 1, 2, 2)) == 0
