"""The learning rate rises, then falls."""

import pytest

from linfusion_cli.training.schedule import Schedule


def test_rates() -> None:
    cosine, constant = Schedule(100, 0.1, warmup=10), Schedule(100, 0.1, warmup=10, shape="constant")
    assert cosine.rate(0, 0) == constant.rate(0, 0) == pytest.approx(0.01)
    assert cosine.rate(0.5, 50) == pytest.approx(0.05)
    assert cosine.rate(1, 100) == pytest.approx(0)
    assert constant.rate(0.9, 90) == 0.1
