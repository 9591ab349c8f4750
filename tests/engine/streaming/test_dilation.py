"""Dilation belongs to the pass: inside the context every convolution has it, afterwards none."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from linfusion_cli.engine.streaming.dilation import dilated

CONV = nn.Conv2d(2, 2, 3, padding=1).requires_grad_(False)
IMAGE = torch.randn(1, 2, 12, 11, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_a_module_runs_as_if_it_were_made_dilated(factor: int) -> None:
    expected = F.conv2d(IMAGE, CONV.weight, CONV.bias, padding=factor, dilation=factor)
    with dilated(factor):
        assert torch.equal(CONV(IMAGE), expected)


def test_an_error_inside_leaves_the_model_as_it_was() -> None:
    plain = CONV(IMAGE)
    with pytest.raises(RuntimeError, match="channels"), dilated(3):
        CONV(torch.zeros(1, 5, 4, 4))
    assert torch.equal(CONV(IMAGE), plain)
    assert (CONV.dilation, CONV.padding) == ((1, 1), (1, 1))


def test_other_functions_are_left_alone() -> None:
    plain = F.avg_pool2d(IMAGE, 3, padding=1)
    with dilated(3):
        assert torch.equal(F.avg_pool2d(IMAGE, 3, padding=1), plain)
