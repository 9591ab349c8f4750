"""Noise is a function of place: the same for any band, never repeated, and normal."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.engine.sampling.noise import gaussian, generator


@given(height=st.integers(1, 20), cut=st.integers(0, 20), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_bands_are_bitwise_equal_to_the_whole(height: int, cut: int, seed: int) -> None:
    whole = gaussian((1, 4, height, 9), seed, stage=2)
    cut = min(cut, height)
    parts = [gaussian((1, 4, rows, 9), seed, stage=2, top=top) for top, rows in ((0, cut), (cut, height - cut))]
    assert torch.equal(torch.cat(parts, dim=2), whole)


def test_it_is_standard_normal() -> None:
    noise = gaussian((1, 4, 256, 256), 7, 0)
    assert abs(noise.mean()) < 0.01
    assert abs(noise.std() - 1) < 0.01
    assert 4 < noise.abs().max() < 7
    assert abs((noise.abs() < 1).float().mean() - 0.6827) < 0.005
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean(), (noise[:, :, 1:] * noise[:, :, :-1]).mean()
    assert max(abs(float(value)) for value in neighbours) < 0.01


def test_every_key_gives_other_noise() -> None:
    shape = (1, 4, 8, 8)
    draws = [
        gaussian(shape, 1, 0),
        gaussian(shape, 2, 0),
        gaussian(shape, 1, 1),
        gaussian(shape, 1, 0, draw=1),
        gaussian(shape, 1, 0, top=8),
    ]
    for i, first in enumerate(draws):
        for second in draws[i + 1 :]:
            assert not torch.isclose(first, second).any(dim=-1).all()
    assert len({float(value) for value in draws[0].flatten()}) == 256


def test_the_stream_never_changes() -> None:
    """These numbers are in every image that was ever made: changing them breaks every seed."""
    expected = torch.tensor([EXPECTED])
    assert torch.allclose(gaussian((1, 1, 1, 4), 42, 1), expected.view(1, 1, 1, 4), atol=1e-6)


EXPECTED = [-0.193872, -0.414826, -0.09813, 1.077398]


def test_generators_are_a_function_of_their_place() -> None:
    draws = [
        torch.randn(4, generator=generator(*place)) for place in ((1, 0, 1), (1, 0, 1), (1, 0, 2), (1, 1, 1), (2, 0, 1))
    ]
    assert torch.equal(draws[0], draws[1])
    assert len({tuple(draw.tolist()) for draw in draws}) == 4
