"""What is read off pixels: discs, grids, detail."""

import random

import pytest
import torch
from torch.nn import functional as F

from linfusion_cli.evaluate.measures import (
    TEXTURES,
    band_energies,
    components,
    count_discs,
    disc_errors,
    seam_score,
    texture,
)
from linfusion_cli.landscapes.frame import BODY
from linfusion_cli.landscapes.render import render, to_levels
from linfusion_cli.landscapes.scene import sample_scene


def drawn(count: int, seed: int, height: int, **wanted: object) -> list[torch.Tensor]:
    rng = random.Random(seed)
    scenes = []
    while len(scenes) < count:
        scene = sample_scene(rng)
        if all(getattr(scene, name) == value for name, value in wanted.items()):
            scenes.append(scene)
    return list(to_levels(render(scenes, height, height)))


def test_components() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)
    labels = components(mask)
    assert len(labels.unique()) == 4
    assert labels[0, 0] == labels[1, 2]
    assert torch.equal(labels > 0, mask)


@pytest.mark.slow
@pytest.mark.parametrize("body", ["sun", "moon"])
@pytest.mark.parametrize("height", [128, 512])
def test_a_rendered_body_is_one(body: str, height: int) -> None:
    counts = [count_discs(image, body) for image in drawn(60 if height == 128 else 20, 3, height, body=body)]
    assert sum(count == 1 for count in counts) / len(counts) >= 0.9  # ridges hide some


@pytest.mark.slow
@pytest.mark.parametrize("body", ["sun", "moon"])
def test_no_body_is_none(body: str) -> None:
    counts = [count_discs(image, body) for image in drawn(60, 4, 128, body="none")]
    assert sum(count == 0 for count in counts) / len(counts) >= 0.95


def test_a_second_sun_is_counted() -> None:
    image = drawn(1, 5, 256, body="none", time="noon")[0]
    y, x = torch.meshgrid(torch.arange(256), torch.arange(256), indexing="ij")
    for left in (70, 180):
        disc = (x - left) ** 2 + (y - 50) ** 2 < 18**2
        image[:, disc] = (torch.tensor(BODY["sun"]) * 255).round().byte()[:, None]
    assert count_discs(image, "sun") == 2


def with_ellipse(height: int, body: str, ratio: float, left: float) -> torch.Tensor:
    """A sky that darkens to the right with a sun or moon, 0.2 of the height tall and `ratio` times as wide."""
    fine = 4 * height  # drawn finer, so that its edge is as smooth as one can be
    y, x = torch.meshgrid(torch.arange(fine) / fine, torch.arange(fine) / fine, indexing="ij")
    sky = torch.stack([0.3 - 0.1 * x, 0.5 - 0.1 * x, 0.8 - 0.2 * x])
    inside = ((x - left) / ratio).square() + (y - 0.4).square() < 0.1**2
    drawn = torch.where(inside, torch.tensor(BODY[body]).view(3, 1, 1), sky)
    return (F.avg_pool2d(drawn, 4) * 255).round().to(torch.uint8)


@pytest.mark.parametrize("body", ["sun", "moon"])
@pytest.mark.parametrize("height", [128, 384])
def test_a_circle_is_round_and_an_ellipse_is_off_by_its_ratio(body: str, height: int) -> None:
    for left in (0.41, 0.523):
        (circle,) = disc_errors(with_ellipse(height, body, 1.0, left), body)
        assert circle < 0.015
        (ellipse,) = disc_errors(with_ellipse(height, body, 1.25, left), body)
        # the radius of an ellipse goes as 1 + d cos 2a with d = (ratio - 1) / (ratio + 1), whose mean square is d^2 / 2
        assert ellipse == pytest.approx(0.25 / 2.25 / 2**0.5, rel=0.2)


def test_a_sky_without_a_disc_has_none() -> None:
    assert disc_errors(with_ellipse(128, "sun", 1.0, 9.0), "sun") == []


def test_a_patch_smaller_than_any_body_is_none() -> None:
    image = drawn(1, 5, 256, body="none", time="noon")[0]
    image[:, 40:55, 60:78] = (torch.tensor(BODY["sun"]) * 255).round().byte()[:, None, None]  # 0.07 of the height
    assert count_discs(image, "sun") == 0


@pytest.mark.slow
@pytest.mark.parametrize("axis", [1, 2])
def test_a_grid_is_found_and_scenes_have_none(axis: int) -> None:
    images = drawn(12, 6, 256)
    plain = [seam_score(image) for image in images]
    assert sum(plain) / len(plain) < 1.4
    tiles = torch.arange(256).div(64, rounding_mode="floor").remainder(2).mul(8).to(torch.uint8)
    tiled = [
        seam_score((image.int() + (tiles[:, None] if axis == 1 else tiles[None, :])).clamp(0, 255).to(torch.uint8))
        for image in images
    ]
    assert sum(tiled) > 2 * sum(plain)
    assert all(after > 1.3 for after in tiled)


@pytest.mark.slow
def test_texture_tells_sharp_from_soft_and_not_what_is_shown() -> None:
    sharp = torch.stack(drawn(40, 7, 128))
    soft = F.interpolate(F.avg_pool2d(sharp.float(), 2), scale_factor=2, mode="bicubic").clamp(0, 255).round().byte()
    features, others = texture(sharp), texture(soft)
    assert features.shape == (40, TEXTURES)
    assert torch.allclose(texture(sharp.flip(-1)), features, atol=1e-4)
    finest, coarsest = slice(0, 6), slice(24, 30)
    assert (features - others)[:, finest].mean() > 5 * (features - others)[:, coarsest].mean().abs()


@pytest.mark.slow
def test_enlarged_images_have_less_detail() -> None:
    for image in drawn(4, 7, 512):
        half = F.interpolate(image[None].float(), size=(256, 256), mode="area")
        soft = F.interpolate(half, size=(512, 512), mode="bicubic").clamp(0, 255).round().byte()[0]
        sharp, blurred = band_energies(image), band_energies(soft)
        assert blurred[0] < sharp[0] - 3
        assert abs(blurred[2] - sharp[2]) < 2
