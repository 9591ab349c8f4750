"""The user's images as fields: the middle in the aspect of a size, in [0, 1], band by band."""

import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from linfusion_cli.engine.streaming.image_source import canny, fitted, unit_field
from linfusion_cli.errors import UsageError
from linfusion_cli.geometry import Band, Size

SIDES = st.integers(1, 64)


@given(height=SIDES, width=SIDES, to_height=SIDES, to_width=SIDES)
@settings(deadline=None)
def test_the_largest_part_of_the_aspect_is_cut_from_the_middle(
    height: int, width: int, to_height: int, to_width: int
) -> None:
    pixels = torch.arange(height * width).view(1, 1, height, width)
    cut = fitted(pixels, Size(to_width, to_height))
    assert cut.shape[2] == height or cut.shape[3] == width
    top, left = divmod(int(cut[0, 0, 0, 0]), width)
    assert abs(top - (height - top - cut.shape[2])) <= 1
    assert abs(left - (width - left - cut.shape[3])) <= 1


@pytest.mark.parametrize(
    ("pixels", "expected"),
    [(torch.tensor([0, 51, 255], dtype=torch.uint8), [0, 0.2, 1]), (torch.tensor([0.25]), [0.25])],
)
def test_levels_and_floats_are_between_0_and_1(pixels: torch.Tensor, expected: list[float]) -> None:
    field = unit_field(pixels.view(1, 1, -1, 1).expand(1, 3, -1, 1), torch.device("cpu"))
    assert (field.channels, field.height, field.width) == (3, len(pixels), 1)
    assert field.rows(Band(0, len(pixels)))[0, 1, :, 0].tolist() == pytest.approx(expected)


def test_edges_without_opencv_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(UsageError, match=r"OpenCV.*pip install"):
        canny(torch.zeros(1, 3, 4, 4, dtype=torch.uint8))


@pytest.mark.parametrize("scale", [1, 255])
def test_the_edge_of_a_square_is_white(scale: int) -> None:
    pytest.importorskip("cv2")
    pixels = torch.zeros(1, 3, 32, 32)
    pixels[:, :, 8:24, 8:24] = scale
    edges = canny(pixels if scale == 1 else pixels.to(torch.uint8))
    assert edges.shape == (1, 3, 32, 32)
    assert set(edges.unique().tolist()) == {0, 255}
    assert edges[0, 0, 16, 16] == 0
