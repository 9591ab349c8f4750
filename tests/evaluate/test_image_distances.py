"""FID, KID and FID of patches, by a network of nine numbers in the place of Inception."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from linfusion_cli.evaluate.image_distances import PATCHES, Features, distances, features_of

pytestmark = pytest.mark.slow  # all of them together


class Means(nn.Module):
    """Three means of each colour, and how rough the image is."""

    def forward(self, images: Tensor) -> Tensor:
        levels = images.float() / 255
        means = nn.functional.adaptive_avg_pool2d(levels, (3, 1)).flatten(1)
        return torch.cat([means, levels.diff(dim=3).abs().mean((1, 2, 3))[:, None]], dim=1)


def features(images: list[Tensor]) -> Features:
    return Features.joined([features_of(image, index, Means(), "cpu", 0) for index, image in enumerate(images)])


def drawn(count: int, seed: int, low: int = 0, grain: int = 6) -> list[Tensor]:
    """Images of 320x340 with one colour each and fine grain."""
    rng = np.random.default_rng(seed)
    return [
        torch.from_numpy(
            np.clip(rng.integers(low, low + 150, (3, 1, 1)) + rng.integers(-grain, grain, (3, 320, 340)), 0, 255)
        ).to(torch.uint8)
        for _ in range(count)
    ]


def test_like_images_are_near_and_others_far() -> None:
    sets = {
        name: features(images)
        for name, images in {"a": drawn(30, 0), "b": drawn(30, 1), "c": drawn(30, 2, low=100)}.items()
    }
    assert sets["a"].patches.shape == (30 * PATCHES, 10)
    near, far = distances(sets["a"], sets["b"]), distances(sets["a"], sets["c"])
    for name in ("fid", "kid", "patch fid"):
        assert near[name].low <= near[name].value <= near[name].high
        assert far[name].low > near[name].high


def test_patches_see_detail_that_whole_images_lose() -> None:
    fine, flat = (features(drawn(30, 5, grain=grain)) for grain in (40, 1))
    found = distances(fine, flat)
    assert found["patch fid"].value > 2 * found["fid"].value
    again = features(drawn(30, 5, grain=40))
    assert torch.equal(again.patches, fine.patches)


def test_small_images_are_their_own_patches() -> None:
    small = [torch.full((3, 20, 30), level, dtype=torch.uint8) for level in (10, 90)]
    assert features(small).patches.shape == (2 * PATCHES, 10)
