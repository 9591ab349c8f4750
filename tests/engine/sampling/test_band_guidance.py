"""Guidance by bands: equal scales are plain guidance to the bit; two scales act on a band each."""

import pytest
import torch

from linfusion_cli.engine.sampling.band_guidance import Guidance
from linfusion_cli.engine.sampling.frequency_bands import low_band


def test_equal_scales_are_plain_guidance_to_the_bit() -> None:
    without, with_text = torch.randn(2, 1, 4, 16, 8)
    assert torch.equal(Guidance(5.0, 5.0)(without, with_text), without + 5.0 * (with_text - without))


@pytest.mark.parametrize(("low", "high"), [(7.5, 35.0), (1.0, 7.5), (4.0, 1.0)])
def test_each_band_has_its_scale(low: float, high: float) -> None:
    without, with_text = torch.randn(2, 1, 4, 16, 8, dtype=torch.float64)
    coarse = low_band(with_text, 0.5) - low_band(without, 0.5)
    fine = (with_text - without) - coarse
    expected = without + low * coarse + high * fine
    assert torch.allclose(Guidance(low, high, 0.5)(without, with_text), expected, atol=1e-10)


def test_it_acts_unless_both_scales_are_one() -> None:
    assert [Guidance(*scales).acts for scales in ((1, 1), (1, 2), (2, 1), (4, 4))] == [False, True, True, True]
