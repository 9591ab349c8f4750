"""The night sky: points of light with a halo, the brightest with rays, ever fainter ones the closer one looks."""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.landscapes.frame import Frame, over
from linfusion_cli.landscapes.value_noise import mix, uniform

# Cells per unit of height, radius of the light, share of cells that hold a star.
LEVELS = ((11, 0.0042, 0.40), (29, 0.0020, 0.40), (83, 0.0008, 0.45), (251, 0.00030, 0.50), (757, 0.00010, 0.50))
FAINTEST = 0.04  # a star whose light is spread thinner than this is not drawn


def paint_stars(image: Tensor, frame: Frame) -> Tensor:
    """One star at most in each cell of five grids; a star smaller than a pixel dims instead of vanishing."""
    chosen = frame.where(stars=True)
    if chosen:
        image[chosen] = _starred(image[chosen], frame.select(chosen))
    return image


def _starred(image: Tensor, frame: Frame) -> Tensor:
    """The image with stars, level by level, down to those that are fainter than a pixel shows."""
    smallest = 0.6 * frame.pixel
    light = torch.zeros_like(image[:, :1])
    for level, (cells, radius, share) in enumerate(LEVELS):
        if bool(((1.4 * radius / smallest) ** 2 < FAINTEST).all()):
            break
        column, row = torch.floor(frame.x * cells), torch.floor(frame.y * cells)
        cell = mix(column.to(torch.int64) * 7919 + row.to(torch.int64) + frame.seed + 977 * level)
        size = radius * (0.6 + 0.8 * uniform(cell, 1))
        dx = frame.x - (column + 0.15 + 0.7 * uniform(cell, 2)) / cells
        dy = frame.y - (row + 0.15 + 0.7 * uniform(cell, 3)) / cells
        shown = (uniform(cell, 4) < share * _band(frame, level)) & (frame.y < frame.horizon)
        light = torch.maximum(light, _light(dx, dy, size, smallest, rays=level == 0) * shown)
    return over(image, torch.full_like(frame.low, 0.97), light)


def _light(dx: Tensor, dy: Tensor, size: Tensor, smallest: Tensor, *, rays: bool) -> Tensor:
    """A star's profile: a core, a soft halo, and four rays for the brightest."""
    spread = torch.maximum(size, smallest)
    distance = (dx * dx + dy * dy).sqrt() / spread
    profile = (1.35 - 1.1 * distance).clamp(0, 1) + 0.25 * torch.exp(-distance)
    if rays:
        across = torch.minimum(dx.abs(), dy.abs()) / spread
        profile = profile + 0.6 * torch.exp(-across * 9 - distance * 0.9)
    profile = torch.where(distance < 6, profile, 0.0)  # a cell's border must not cut the light
    return (profile * (size / spread) ** 2).clamp(0, 1)


def _band(frame: Frame, level: int) -> Tensor | float:
    """The Milky Way: faint stars are dense along a slanting line, and sparse elsewhere."""
    if level < 2:
        return 1.0
    slope = uniform(frame.seed, 41) - 0.5
    away = (frame.y - 0.25 - slope * (frame.x - 0.6)) / 0.16
    return 0.55 + 1.1 * torch.exp(-away * away)
