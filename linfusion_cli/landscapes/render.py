"""Draws scenes at any size through a view window, a batch at a time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from linfusion_cli.landscapes.noise import fractal, mix, uniform, value_noise
from linfusion_cli.landscapes.scene import Scene

# Sky colours (horizon, zenith) and the light that falls on the land, by time of day.
SKY = {
    "dawn": ((0.98, 0.74, 0.64), (0.56, 0.63, 0.87), 0.85),
    "morning": ((0.96, 0.91, 0.76), (0.45, 0.72, 0.93), 1.00),
    "noon": ((0.76, 0.89, 0.98), (0.24, 0.54, 0.92), 1.10),
    "sunset": ((0.99, 0.62, 0.30), (0.55, 0.20, 0.45), 0.75),
    "dusk": ((0.72, 0.45, 0.62), (0.16, 0.15, 0.42), 0.50),
    "night": ((0.13, 0.17, 0.38), (0.02, 0.03, 0.12), 0.28),
}
TINT = {
    "red": (0.78, 0.18, 0.18),
    "green": (0.18, 0.52, 0.24),
    "blue": (0.18, 0.33, 0.68),
    "purple": (0.43, 0.20, 0.58),
    "golden": (0.83, 0.62, 0.18),
    "gray": (0.46, 0.47, 0.50),
    "teal": (0.08, 0.50, 0.50),
}
BODY = {"none": (0.0, 0.0, 0.0), "sun": (1.0, 0.93, 0.68), "moon": (0.93, 0.95, 1.0)}
# Ridge shape by terrain: lowest frequency, gain, octaves, height.
RIDGE = {
    "mountains": (2.2, 0.50, 12, 0.36),
    "hills": (1.4, 0.28, 9, 0.20),
    "dunes": (1.1, 0.30, 8, 0.17),
    "islands": (2.4, 0.45, 12, 0.26),
    "forest": (1.6, 0.35, 6, 0.16),
}
SNOW_COLOUR = (0.93, 0.95, 0.98)


@dataclass(frozen=True, slots=True)
class View:
    """A window into a scene: its top left corner and its height, in units of the scene's height."""

    left: float = 0.0
    top: float = 0.0
    extent: float = 1.0


@dataclass(frozen=True, slots=True)
class _Frame:
    """Coordinates of a batch's pixels, and what every layer needs of its scenes; all broadcast to (B, 1, H, W)."""

    x: Tensor  # (B, 1, 1, W)
    y: Tensor  # (B, 1, H, 1), mirrored below a lake's shore
    pixel: Tensor  # (B, 1, 1, 1): a pixel's size in scene units
    seed: Tensor  # (B, 1, 1, 1) int64
    horizon: Tensor
    low: Tensor  # (B, 3, 1, 1): the sky at the horizon
    high: Tensor  # (B, 3, 1, 1): the sky overhead
    tint: Tensor
    light: Tensor


def random_view(scene: Scene, rng: random.Random, smallest: float = 1 / 16, aspect: float = 1.0) -> View:
    """A window of random size (log-uniform), mostly over the land, sometimes anywhere."""
    extent = smallest ** rng.random()
    centre_x = rng.random() * scene.aspect
    centre_y = rng.random() if rng.random() < 0.3 else rng.uniform(0.38, 0.95)
    if scene.body != "none" and rng.random() < 0.25:
        centre_x, centre_y, radius = _body_place(scene)
        centre_x += rng.uniform(-1.5, 1.5) * radius
        centre_y += rng.uniform(-1.5, 1.5) * radius
    left = min(max(centre_x - extent * aspect / 2, 0.0), scene.aspect - min(extent * aspect, scene.aspect))
    return View(left, min(max(centre_y - extent / 2, 0.0), 1 - extent), extent)


def render(scenes: Sequence[Scene], height: int, width: int, views: Sequence[View] | None = None) -> Tensor:
    """Draws a batch of scenes.

    Returns float32 (batch, 3, height, width) in [0, 1]. Without `views` each scene is drawn whole.
    """
    frame, depth = _frame(scenes, height, width, views or [View()] * len(scenes))
    image = _sky(frame)
    image = _stars(image, frame, _flags(scenes, "stars"))
    image = _body(image, frame, scenes)
    image = _sea(image, frame, _flags(scenes, terrain="islands"))
    for index in range(4):
        image = _layer(image, frame, scenes, index)
    return _lake(image, frame, depth, _flags(scenes, "lake")).clamp(0, 1)


def _column(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


def _colours(values: Sequence[Sequence[float]]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(-1, 3, 1, 1)


def _flags(scenes: Sequence[Scene], name: str = "", terrain: str = "") -> Tensor:
    return _column([float(scene.terrain == terrain if terrain else getattr(scene, name)) for scene in scenes])


def _unit(seed: int, key: int) -> float:
    return float(uniform(torch.tensor(seed), key))


def _body_place(scene: Scene) -> tuple[float, float, float]:
    """Centre x, centre y and radius of the sun or moon."""
    x, y, radius = (_unit(scene.seed, key) for key in (1, 2, 3))
    return (0.18 + 0.64 * x) * scene.aspect, 0.14 + 0.34 * y, 0.05 + 0.06 * radius


def _frame(scenes: Sequence[Scene], height: int, width: int, views: Sequence[View]) -> tuple[_Frame, Tensor]:
    """The batch's coordinates, and each pixel's depth below the lake's shore (positive = water)."""
    extent = _column([view.extent for view in views])
    pixel = extent / height
    x = _column([view.left for view in views]) + pixel * (torch.arange(width) + 0.5).view(1, 1, 1, width)
    y = _column([view.top for view in views]) + pixel * (torch.arange(height) + 0.5).view(1, 1, height, 1)
    seed = torch.tensor([scene.seed for scene in scenes], dtype=torch.int64).view(-1, 1, 1, 1)
    horizon = 0.60 + 0.10 * (uniform(seed, 4) - 0.5)
    shore = horizon + 0.20 + 0.06 * uniform(seed, 5)
    depth = torch.where(_flags(scenes, "lake") > 0, y - shore, torch.full_like(y, -1.0))
    ripple = 0.10 * depth * (value_noise(1.0 / (depth.clamp(min=0) + 0.02) * 6, seed + 6) - 0.5)
    sky = [SKY[scene.time] for scene in scenes]
    frame = _Frame(
        x=x,
        y=torch.where(depth > 0, shore - 1.6 * depth + ripple, y),  # the lake is a mirror, seen at a low angle
        pixel=pixel,
        seed=seed,
        horizon=horizon,
        low=_colours([entry[0] for entry in sky]),
        high=_colours([entry[1] for entry in sky]),
        tint=_colours([TINT[scene.tint] for scene in scenes]),
        light=_column([entry[2] for entry in sky]),
    )
    return frame, depth


def _select(frame: _Frame, chosen: Tensor) -> _Frame:
    """The frame of some of the batch's scenes."""
    return _Frame(**{field.name: getattr(frame, field.name)[chosen] for field in fields(frame)})


def _over(image: Tensor, colour: Tensor, cover: Tensor) -> Tensor:
    return torch.lerp(image, colour.expand_as(image), cover.expand_as(image))


def _edge(distance: Tensor, pixel: Tensor) -> Tensor:
    """Coverage of a pixel whose centre lies `distance` inside a shape."""
    return (distance / pixel + 0.5).clamp(0, 1)


def _sky(frame: _Frame) -> Tensor:
    height = (frame.y / frame.horizon).clamp(0, 1)
    return torch.lerp(frame.high, frame.low, height).expand(-1, 3, -1, frame.x.shape[-1]).clone()


def _stars(image: Tensor, frame: _Frame, present: Tensor) -> Tensor:
    """One star at most in each cell of three grids; a star smaller than a pixel dims instead of vanishing."""
    chosen = present.flatten().nonzero().flatten()
    if len(chosen) == 0:
        return image
    image[chosen] = _starred(image[chosen], _select(frame, chosen))
    return image


def _starred(image: Tensor, frame: _Frame) -> Tensor:
    for level, (cells, radius) in enumerate(((11, 0.0042), (29, 0.0020), (83, 0.0008))):
        column, row = torch.floor(frame.x * cells), torch.floor(frame.y * cells)
        cell = mix(column.to(torch.int64) * 7919 + row.to(torch.int64) + frame.seed + 977 * level)
        size = radius * (0.6 + 0.8 * uniform(cell, 1))
        dx = frame.x - (column + 0.15 + 0.7 * uniform(cell, 2)) / cells
        dy = frame.y - (row + 0.15 + 0.7 * uniform(cell, 3)) / cells
        shown = (uniform(cell, 4) < 0.4) & (frame.y < frame.horizon)
        size_px = torch.maximum(size, 0.6 * frame.pixel)
        dim = (size / size_px) ** 2
        cover = _edge(size_px - (dx * dx + dy * dy).sqrt(), frame.pixel) * dim * shown
        image = _over(image, torch.full_like(frame.low, 0.96), cover)
    return image


def _body(image: Tensor, frame: _Frame, scenes: Sequence[Scene]) -> Tensor:
    place = [_body_place(scene) for scene in scenes]
    x, y, radius = (_column([entry[axis] for entry in place]) for axis in range(3))
    present = _column([float(scene.body != "none") for scene in scenes])
    colour = _colours([BODY[scene.body] for scene in scenes])
    distance = ((frame.x - x) ** 2 + (frame.y - y) ** 2).sqrt()
    glow = torch.exp(-(distance / radius - 1).clamp(min=0) * 1.1) * 0.35
    image = _over(image, colour, glow * present)
    return _over(image, colour, _edge(radius - distance, frame.pixel) * present)


def _sea(image: Tensor, frame: _Frame, present: Tensor) -> Tensor:
    """Open water from the horizon down, for the islands."""
    below = ((frame.y - frame.horizon) / (1 - frame.horizon)).clamp(0, 1)
    colour = torch.lerp(frame.low * 0.85 + 0.15 * frame.high, frame.high * 0.55 + frame.tint * frame.light * 0.25, below)
    glint = value_noise(frame.y * 160 / (0.2 + below), frame.seed + 8) - 0.5
    colour = colour * (1 + 0.05 * glint * (0.006 / frame.pixel).clamp(0, 1))
    return _over(image, colour.expand(-1, 3, -1, -1), _edge(frame.y - frame.horizon, frame.pixel) * present)


def _ridge(frame: _Frame, scenes: Sequence[Scene], seed: Tensor, near: Tensor) -> tuple[Tensor, Tensor]:
    """The skyline of a layer (B, 1, 1, W) and its undulation in [0, 1], all terrains side by side."""
    undulation = torch.full_like(frame.x, 0.5)
    x = frame.x + 50 * uniform(seed, 1)
    height = torch.zeros_like(frame.pixel)
    for name, (frequency, gain, octaves, tall) in RIDGE.items():
        chosen = [index for index, scene in enumerate(scenes) if scene.terrain == name]
        if not chosen:
            continue
        wave = fractal(x[chosen], seed[chosen], frequency, gain, octaves, frame.pixel[chosen])
        undulation[chosen] = 1 - (2 * wave - 1).abs() * 1.6 if name == "dunes" else wave
        height[chosen] = tall
    top = frame.horizon + 0.30 * (near - 0.28) - height * (1.25 - 0.5 * near) * (undulation - 0.30) * 1.5
    return top, undulation


def _trees(frame: _Frame, seed: Tensor, near: Tensor) -> Tensor:
    """Height of a row of conifers above the ground line, (B, 1, 1, W), with tiers that show from close by."""
    place = frame.x * (20 / (near + 0.3)) + 50 * uniform(seed, 2)
    column = torch.floor(place)
    side = (place - column - 0.5).abs() * 2  # 0 at the trunk, 1 between two trees
    tall = 0.45 + 0.75 * uniform(seed + 3, column.to(torch.int64))
    tiers = (side * 6 - torch.floor(side * 6)) * 0.13
    needles = value_noise(place * 90, seed + 4, smooth=False) * 0.05
    fine = (0.004 / frame.pixel).clamp(0, 1)
    return 0.11 * (near * 0.7 + 0.3) * tall * (1 - side + fine * (tiers + needles))


def _layer(image: Tensor, frame: _Frame, scenes: Sequence[Scene], index: int) -> Tensor:
    """Paints layer `index` (0 is the farthest) over the image, where the scene has so many."""
    layers = _column([float(scene.layers) for scene in scenes])
    near = ((index + 1) / layers).clamp(max=1)
    shown = (layers > index).float()
    seed = mix(frame.seed + 1000 * (index + 1))
    top, undulation = _ridge(frame, scenes, seed, near)
    top = top - _trees(frame, seed, near) * _flags(scenes, terrain="forest")
    isle = _flags(scenes, terrain="islands")
    shore = frame.horizon + 0.30 * (near - 0.15)  # an island ends at its own water line
    top = torch.where(isle > 0, shore - 0.5 * (undulation - 0.48), top)
    cover = _edge(frame.y - top, frame.pixel) * shown
    cover = torch.where(isle > 0, torch.minimum(cover, _edge(shore - frame.y, frame.pixel)), cover)

    colour = frame.low * (1 - near) * 0.72 + frame.tint * frame.light * (1 - (1 - near) * 0.72) * (1.0 - 0.45 * near)
    below = frame.y - top
    colour = colour * (1.06 - 0.35 * below.clamp(0, 0.4))
    colour = _snow(colour, frame, below, undulation, seed, _flags(scenes, "snow"))
    mist = (below / 0.2).clamp(0, 1) * (0.78 - 0.45 * near) * _flags(scenes, "fog")
    return _over(image, _over(colour, frame.low, mist), cover)


def _snow(colour: Tensor, frame: _Frame, below: Tensor, undulation: Tensor, seed: Tensor, present: Tensor) -> Tensor:
    """Snow on the ridge: a cap, deeper on high ground, with a ragged lower edge."""
    ragged = fractal(frame.x + 3.7, seed + 5, 14.0, 0.55, 6, frame.pixel)
    depth = 0.02 + 0.16 * (undulation - 0.35).clamp(min=0) + 0.05 * (ragged - 0.5)
    white = torch.tensor(SNOW_COLOUR).view(1, 3, 1, 1) * (frame.light + 0.2).clamp(max=1)
    return _over(colour, white, _edge(depth - below, frame.pixel) * present)


def _lake(image: Tensor, frame: _Frame, depth: Tensor, present: Tensor) -> Tensor:
    """Water over the mirrored land: darker, tinted by the sky, with a bright line at the shore."""
    water = frame.high * 0.6 + frame.tint * frame.light * 0.2
    surface = torch.lerp(image * 0.92, water.expand_as(image), 0.22 + 0.5 * depth.clamp(0, 0.5))
    ripples = value_noise(1.0 / (depth.clamp(min=0) + 0.03) * 40, frame.seed + 9) - 0.5
    surface = surface * (1 + 0.07 * ripples * (0.006 / frame.pixel).clamp(0, 1))
    return _over(image, surface, _edge(depth, frame.pixel) * present)
