"""Residuals of several networks add up, for each sample and each place where diffusers adds them."""

import pytest
import torch
from torch import Tensor

from linfusion_cli.engine.streaming.residuals import Residuals, combined

DOWN = [torch.randn(2, 3, 4, 5), torch.randn(2, 6, 2, 3)]
MIDDLE, INSIDE = torch.randn(2, 6, 2, 3), [torch.randn(2, 3, 2, 2)]


def test_diffusers_gets_back_what_came_from_it() -> None:
    options = Residuals.of(DOWN, MIDDLE, INSIDE).for_diffusers()
    assert set(options) == {
        "down_block_additional_residuals",
        "mid_block_additional_residual",
        "down_intrablock_additional_residuals",
    }
    for ours, plain in zip(options["down_block_additional_residuals"], DOWN, strict=True):
        assert torch.equal(ours, plain)
    assert torch.equal(_tensor(options["mid_block_additional_residual"]), MIDDLE)
    assert torch.equal(options["down_intrablock_additional_residuals"][0], INSIDE[0])


def test_two_networks_add_up_and_missing_places_stay() -> None:
    both = combined([Residuals.of(DOWN, MIDDLE), Residuals.of(DOWN, MIDDLE, INSIDE)])
    assert both is not None
    options = both.for_diffusers()
    assert torch.equal(_tensor(options["mid_block_additional_residual"]), 2 * MIDDLE)
    assert torch.equal(options["down_intrablock_additional_residuals"][0], INSIDE[0])


def test_no_network_adds_nothing() -> None:
    assert combined([]) is None
    assert Residuals.none(3).for_diffusers() == {}
    assert len(Residuals.none(3).samples) == 3


def test_networks_of_another_batch_are_refused() -> None:
    with pytest.raises(ValueError, match="argument 2"):
        Residuals.none(2).plus(Residuals.none(3))


def _tensor(value: Tensor | list[Tensor]) -> Tensor:
    assert isinstance(value, Tensor)
    return value
