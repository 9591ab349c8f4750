"""Repeated objects raise the measure; one object, noise, straight lines and clear skies do not."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.evaluate.repetition import FLAT, PATCH_PX, SHARE, STRAIGHT, STRIDE_PX, WINDOW_PX, repetition

pytestmark = pytest.mark.slow  # all of them together


def random_levels(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed)) * 255


def with_objects(*places: tuple[int, int]) -> Tensor:
    """A sky with one patterned object of 30 pixels at each place."""
    image = torch.linspace(90, 200, 192)[:, None].expand(3, 192, 384).clone()
    pattern = F.interpolate(random_levels(1, 3, 6, 6), size=(30, 30), mode="bilinear")[0]
    for top, left in places:
        image[:, top : top + 30, left : left + 30] = pattern
    return image.to(torch.uint8)


def slow_detail(image: Tensor) -> Tensor:
    pixels, reach = image.double() / 255, WINDOW_PX // 2
    detail = pixels.clone()
    for y in range(image.shape[1]):
        for x in range(image.shape[2]):
            window = pixels[:, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
            detail[:, y, x] -= window.mean((1, 2))
    return detail


def slow_roundness(detail: Tensor, top: int, left: int) -> float:
    levels, tensor = detail.mean(0), torch.zeros(2, 2, dtype=torch.float64)
    for y in range(top, top + PATCH_PX):
        for x in range(left, left + PATCH_PX):
            below, beside = min(y + 1, levels.shape[0] - 1), min(x + 1, levels.shape[1] - 1)
            gradient = torch.stack([levels[below, x] - levels[y, x], levels[y, beside] - levels[y, x]])
            tensor += gradient.outer(gradient)
    return float(4 * tensor.det() / tensor.trace() ** 2)


def slow(image: Tensor) -> float:
    """The same for an image that is not shrunk, by comparing all pairs of patches."""
    detail, shown = slow_detail(image), []
    for top in range(0, image.shape[1] - PATCH_PX + 1, STRIDE_PX):
        for left in range(0, image.shape[2] - PATCH_PX + 1, STRIDE_PX):
            patch = detail[:, top : top + PATCH_PX, left : left + PATCH_PX]
            patch = patch - patch.mean((1, 2), keepdim=True)
            if patch.square().mean().sqrt() > FLAT and slow_roundness(detail, top, left) > STRAIGHT:
                shown.append((top, left, patch / patch.norm()))
    nearest = []
    for top, left, patch in shown:
        apart = [(patch * other).sum() for y, x, other in shown if max(abs(y - top), abs(x - left)) >= PATCH_PX]
        nearest.append(max(map(float, apart), default=0.0))
    most = sorted(nearest, reverse=True)[: max(1, round(SHARE * len(nearest)))]
    return sum(most) / len(most)


def test_it_is_what_comparing_all_pairs_gives() -> None:
    image = F.interpolate(random_levels(1, 3, 9, 10), size=(36, 40), mode="bilinear")[0].to(torch.uint8)
    assert abs(repetition(image) - slow(image)) < 1e-5


def test_a_second_object_is_found_wherever_it_is() -> None:
    assert repetition(with_objects((40, 40))) < 0.1
    for place in ((104, 264), (101, 263)):
        assert repetition(with_objects((40, 40), place)) > 0.75
    tile = F.interpolate(random_levels(1, 3, 12, 12), size=(48, 48), mode="bilinear")[0]
    assert repetition(tile.repeat(1, 4, 8).to(torch.uint8)) > 0.99


def test_what_shows_no_object_repeats_none() -> None:
    flat, tiny = torch.full((3, 192, 300), 128, dtype=torch.uint8), torch.zeros(3, 8, 8, dtype=torch.uint8)
    horizon = flat.clone()
    horizon[:, 100:] = 20
    assert [repetition(image) for image in (flat, tiny, horizon)] == [0, 0, 0]
    assert repetition(random_levels(3, 192, 192).to(torch.uint8)) < 0.2
