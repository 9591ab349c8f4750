"""The UNet over ranks equals that of one process, for all families, sizes, bands, dilations and numbers of ranks."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from rank_work import unet_pass
from ranks import SIZES, Ranks

FAMILIES = ["sd15", "sd21", "sdxl"]


@pytest.mark.covers("`--ranks`, `--devices`: one image by several processes", "as one")
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(("height", "width", "band_rows", "dilation"), [(13, 9, 3, 1), (36, 5, 100, 1), (30, 7, 5, 4)])
def test_equals_one_process_in_float64(
    ranks: Ranks, size: int, family: str, height: int, width: int, band_rows: int, dilation: int
) -> None:
    arguments = (family, height, width, band_rows, dilation)
    alone, _ = unet_pass(None, *arguments)
    for together, _ in ranks.run(size, unet_pass, *arguments):
        assert (together - alone).norm() / alone.norm() < 1e-10


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_one_process_in_float32(ranks: Ranks, size: int, family: str) -> None:
    arguments = (family, 40, 11, 4, 1, torch.float32)
    alone, _ = unet_pass(None, *arguments)
    for together, _ in ranks.run(size, unet_pass, *arguments):
        assert (together - alone).norm() / alone.norm() < 1e-5


@pytest.mark.parametrize("size", SIZES)
def test_softmax_attention(ranks: Ranks, size: int) -> None:
    arguments = ("sd15", 20, 6, 3, 1, torch.float64, True)
    alone, _ = unet_pass(None, *arguments)
    for together, _ in ranks.run(size, unet_pass, *arguments):
        assert (together - alone).norm() / alone.norm() < 1e-10


def test_a_dilation_that_reaches_beyond_the_neighbours(ranks: Ranks) -> None:
    arguments = ("sd15", 28, 5, 4, 16)
    alone, _ = unet_pass(None, *arguments)
    for together, _ in ranks.run(7, unet_pass, *arguments):
        assert (together - alone).norm() / alone.norm() < 1e-10


@given(shares=st.lists(st.integers(1, 20), min_size=2, max_size=4).map(tuple), dilation=st.sampled_from([1, 4]))
@settings(max_examples=8, deadline=None)
def test_any_shares_of_the_rows(ranks: Ranks, shares: tuple[int, ...], dilation: int) -> None:
    arguments = ("sd15", 37, 5, 4, dilation, torch.float64, False)
    alone, _ = unet_pass(None, *arguments)
    for together, _ in ranks.run(len(shares), unet_pass, *arguments, shares):
        assert (together - alone).norm() / alone.norm() < 1e-10
