"""Each convolution gives the rows of the plain layer, whatever the band, the size and the padding."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.streaming.convolutions import Convolution, Convolved, Doubled, UpsampledConvolved
from linfusion_cli.engine.streaming.dilation import dilated
from linfusion_cli.engine.streaming.row_source import Field, Parked
from linfusion_cli.geometry import Size, bands

pytestmark = pytest.mark.slow  # all of them together

SIZES = st.tuples(st.integers(1, 13), st.integers(1, 9))


def image(size: tuple[int, int]) -> Tensor:
    return torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(sum(size)), dtype=torch.float64)


def convolution(stride: int = 1) -> nn.Conv2d:
    torch.manual_seed(stride)
    return nn.Conv2d(3, 5, 3, stride, 1).double().requires_grad_(False)


def joined(field: Field, band_rows: int) -> Tensor:
    rows = torch.cat([field.rows(band) for band in bands(field.height, band_rows)], dim=2)
    assert rows.shape == (1, field.channels, field.height, field.width)
    return rows


@given(size=SIZES, band_rows=st.integers(1, 14), stride=st.sampled_from([1, 2]))
@settings(deadline=None)
def test_convolved_is_the_plain_convolution(size: tuple[int, int], band_rows: int, stride: int) -> None:
    x, conv = image(size), convolution(stride)
    assert torch.allclose(joined(Convolved.same(Parked.of(x), conv), band_rows), conv(x))


@given(size=SIZES, band_rows=st.integers(1, 14))
@settings(deadline=None)
def test_padding_on_two_sides_alone(size: tuple[int, int], band_rows: int) -> None:
    """As an autoencoder's downsampler pads: below and to the right."""
    x, conv = F.pad(image(size), (0, 1, 0, 1)), nn.Conv2d(3, 5, 3, 2).double().requires_grad_(False)
    field = Convolved(Parked.of(x), conv, (0, 1, 0, 1))
    assert torch.allclose(joined(field, band_rows), conv(F.pad(x, (0, 1, 0, 1))))


@given(size=SIZES, band_rows=st.integers(1, 14), stride=st.sampled_from([1, 2]), dilation=st.sampled_from([1, 2, 5]))
@settings(deadline=None)
def test_a_module_in_bands_is_the_module(size: tuple[int, int], band_rows: int, stride: int, dilation: int) -> None:
    x, conv = image(size), convolution(stride)
    with dilated(dilation):
        field = Convolution(Parked.of(x), conv, dilation)
        assert torch.allclose(joined(field, band_rows), conv(x))


@given(size=SIZES, band_rows=st.integers(1, 14))
@settings(deadline=None)
def test_an_upsampler_is_doubling_and_a_convolution(size: tuple[int, int], band_rows: int) -> None:
    x, conv = image(size), convolution()
    expected = conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))
    assert torch.allclose(joined(UpsampledConvolved.of(Parked.of(x), conv), band_rows), expected)


@given(size=SIZES, band_rows=st.integers(1, 14), odd=st.tuples(st.integers(0, 1), st.integers(0, 1)))
@settings(deadline=None)
def test_doubled_ends_where_the_skip_ends(size: tuple[int, int], band_rows: int, odd: tuple[int, int]) -> None:
    x = image(size)
    height, width = 2 * size[0] - odd[0], 2 * size[1] - odd[1]
    expected = F.interpolate(x, scale_factor=2.0, mode="nearest")[:, :, :height, :width]
    assert torch.equal(joined(Doubled(Parked.of(x), Size(width, height)), band_rows), expected)
