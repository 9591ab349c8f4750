"""Draws scenes at any size through a view window, a batch at a time; the smaller the window, the finer the detail."""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from linfusion_cli.landscapes.frame import Frame, View, body_place, edge, make_frame, over
from linfusion_cli.landscapes.land import paint_layer
from linfusion_cli.landscapes.scene import Scene
from linfusion_cli.landscapes.stars import paint_stars
from linfusion_cli.landscapes.value_noise import uniform
from linfusion_cli.landscapes.water import paint_lake, paint_sea

LAYERS = 4
CHUNK_PIXELS = 128 * 128 * 12  # so many pixels at a time stay in a CPU's caches


def random_view(scene: Scene, rng: random.Random, smallest: float = 1 / 16, aspect: float = 1.0) -> View:
    """A window of random size (log-uniform), mostly over the land, sometimes anywhere."""
    extent = smallest ** rng.random()
    centre_x = rng.random() * scene.aspect
    centre_y = rng.random() if rng.random() < 0.3 else rng.uniform(0.38, 0.95)
    if scene.body != "none" and rng.random() < 0.25:
        centre_x, centre_y, radius = body_place(scene)
        centre_x += rng.uniform(-1.5, 1.5) * radius
        centre_y += rng.uniform(-1.5, 1.5) * radius
    left = min(max(centre_x - extent * aspect / 2, 0.0), scene.aspect - min(extent * aspect, scene.aspect))
    return View(left, min(max(centre_y - extent / 2, 0.0), 1 - extent), extent)


def to_levels(images: Tensor) -> Tensor:
    """Images in [0, 1] to whole levels 0 to 255, uint8."""
    return (images * 255).round().to(torch.uint8)


def render(
    scenes: Sequence[Scene],
    height: int,
    width: int,
    views: Sequence[View] | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """Draws a batch of scenes.

    Returns float32 (batch, 3, height, width) in [0, 1] on `device` (the CPU if none is given). Without `views` each
    scene is drawn whole.
    """
    windows, device = views or [View()] * len(scenes), device or torch.device("cpu")
    step = len(scenes) if device.type != "cpu" else max(1, CHUNK_PIXELS // (height * width))
    parts = [
        _draw(make_frame(scenes[start : start + step], height, width, windows[start : start + step], device))
        for start in range(0, len(scenes), step)
    ]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _draw(frame: Frame) -> Tensor:
    image = paint_stars(_sky(frame), frame)
    image = paint_sea(_body(image, frame), frame)
    for index in range(LAYERS):
        image = paint_layer(image, frame, index)
    return paint_lake(image, frame).clamp(0, 1)


def _sky(frame: Frame) -> Tensor:
    height = (frame.y / frame.horizon).clamp(0, 1)
    return torch.lerp(frame.high, frame.low, height).expand(-1, 3, -1, frame.x.shape[-1]).clone()


def _body(image: Tensor, frame: Frame) -> Tensor:
    """The sun, or the moon with its seas, and the glow around it."""
    chosen = frame.where(body=("sun", "moon"))
    if not chosen:
        return image
    part = frame.select(chosen)
    x, y, radius = part.place.split(1, dim=1)
    dx, dy = (part.x - x) / radius, (part.y - y) / radius
    distance = (dx * dx + dy * dy).sqrt()
    lit = over(image[chosen], part.body, torch.exp(-(distance - 1).clamp(min=0) * 1.1) * 0.35)
    moon = part.column([float(scene.body == "moon") for scene in part.scenes])
    face = part.body * (1 - moon * _seas(dx, dy, part.seed))
    image[chosen] = over(lit, face, edge((1 - distance) * radius, part.pixel))
    return image


def _seas(dx: Tensor, dy: Tensor, seed: Tensor) -> Tensor:
    """How much darker the moon is where its seas and craters are; coordinates in radii."""
    dark = torch.zeros_like(dx * dy)
    for crater in range(6):
        across, down, wide = (uniform(seed + 500 + crater, axis) for axis in range(3))
        size = (0.34 if crater < 3 else 0.10) * (0.5 + wide)
        square = (dx - 1.2 * (across - 0.5)).square() + (dy - 1.2 * (down - 0.5)).square()
        dark = torch.maximum(dark, 0.06 * ((size * size - square) / (0.08 * size)).clamp(0, 1))
    return dark
