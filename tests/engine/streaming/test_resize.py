"""Enlarging in bands equals Pillow's float resize, whatever the band."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.streaming.resize import KERNELS, LINES, Resized
from linfusion_cli.engine.streaming.row_source import Derived, Parked, sweep
from linfusion_cli.geometry import Band, Size

PILLOW = {
    "lanczos": Image.Resampling.LANCZOS,
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
}


def by_pillow(image: torch.Tensor, size: Size, kernel: str) -> torch.Tensor:
    channels = [
        Image.fromarray(channel.numpy(), mode="F").resize((size.width, size.height), PILLOW[kernel])
        for channel in image[0]
    ]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in channels]))[None].clamp(-1, 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
@given(
    source=st.tuples(st.integers(1, 150), st.integers(1, 150)),
    target=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    band=st.integers(1, 40),
    kernel=st.sampled_from(sorted(KERNELS)),
)
@settings(deadline=None, max_examples=120)
def test_equals_pillow_for_any_size_and_band(
    source: tuple[int, int], target: tuple[int, int], band: int, kernel: str
) -> None:
    """Larger and smaller."""
    image = torch.rand(1, 3, source[1], source[0]) * 2 - 1
    field = Resized.to(Parked.of(image), Size(*target), kernel)
    ours = torch.cat([rows for _, rows in sweep(field, band, ActivationStore.unlimited(torch.device("cpu")))], dim=2)
    assert torch.allclose(ours, by_pillow(image, Size(*target), kernel), atol=1e-5)


class Watched(Derived):
    """Tells how many rows are asked for at a time."""

    asked: ClassVar[list[int]] = []

    def rows(self, band: Band) -> torch.Tensor:
        self.asked.append(band.height)
        return self.source.rows(band)


def test_a_photo_made_small_is_read_a_few_lines_at_a_time() -> None:
    Resized.to(Watched(Parked.of(torch.rand(1, 3, 2000, 300))), Size(16, 100), "lanczos").rows(Band(0, 100))
    assert sum(Watched.asked) == 2000
    assert max(Watched.asked) == LINES
