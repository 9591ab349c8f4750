"""Strips have their height and all rows; what is wrong with rows is found."""

import numpy as np
import pytest
from format_samples import image_of, in_pieces
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.geometry import Size
from linfusion_cli.output.formats.strips import checked_rows, halved, strips_of

pytestmark = pytest.mark.slow  # all of them together


@given(st.integers(1, 60), st.integers(1, 20), st.lists(st.integers(1, 30), min_size=1, max_size=5))
def test_strips_hold_every_row(height: int, strip: int, heights: list[int]) -> None:
    image = image_of(Size(4, height))
    strips = list(strips_of(in_pieces(image, tuple(heights)), strip))
    assert [len(one) for one in strips[:-1]] == [strip] * (len(strips) - 1)
    assert np.array_equal(np.concatenate(strips), image)


def test_halves_are_means() -> None:
    image = image_of(Size(7, 5), 16)
    padded = np.pad(image, ((0, 1), (0, 1), (0, 0)), mode="edge").astype(float)
    means = padded.reshape(3, 2, 4, 2, 3).mean((1, 3))
    assert np.abs(halved(image) - means).max() <= 0.5


@pytest.mark.parametrize(
    ("rows", "bits", "reason"),
    [
        (np.zeros((2, 3, 3), np.uint8), 16, "uint16"),
        (np.zeros((2, 4, 3), np.uint8), 8, "not uint8"),
        (np.zeros((3, 3, 3), np.uint8), 8, "3 were given"),
        (np.zeros((1, 3, 3), np.uint8), 8, "only 1"),
    ],
)
def test_wrong_rows_are_refused(rows: np.ndarray, bits: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        list(checked_rows(iter([rows]), Size(3, 2), bits))
