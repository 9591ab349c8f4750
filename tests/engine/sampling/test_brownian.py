"""The increments of a Brownian path that DPM-Solver SDE asks for."""

import pytest
import torch

from linfusion_cli.engine.sampling.brownian import BrownianIncrements


def test_the_second_half_of_a_brownian_step_belongs_to_the_first() -> None:
    """The increment over a whole step has deviation 1, and correlates with that over its first half."""
    first, draw = torch.randn(2, 100_000, generator=torch.Generator().manual_seed(0))
    sigma, following = torch.tensor(4.0), torch.tensor(1.0)
    whole = BrownianIncrements(draw, first)(sigma, following)
    assert whole.std() == pytest.approx(1, abs=0.01)
    assert (whole * first).mean() == pytest.approx((2 / 3) ** 0.5, abs=0.01)
