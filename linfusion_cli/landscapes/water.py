"""Open sea and lakes: rows of ripples, and the glitter of sun and moon."""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.landscapes.frame import Frame, edge, over, saw
from linfusion_cli.landscapes.value_noise import uniform

OCTAVES = 5


def paint_sea(image: Tensor, frame: Frame) -> Tensor:
    """Open water from the horizon down, for the islands."""
    chosen = frame.where(terrain="islands")
    if chosen:
        image[chosen] = _sea(image[chosen], frame.select(chosen))
    return image


def _sea(image: Tensor, frame: Frame) -> Tensor:
    """The image with a sea below the horizon, darker with the distance, which glitters below the sun or the moon."""
    below = ((frame.y - frame.horizon) / (1 - frame.horizon)).clamp(0, 1)
    colour = torch.lerp(
        frame.low * 0.85 + 0.15 * frame.high, frame.high * 0.55 + frame.tint * frame.light * 0.25, below
    )
    crest = ripples(frame, below * 0.4, frame.seed + 8)
    colour = colour * (1 + 0.10 * (crest - 0.25))
    x, _, radius = frame.place.split(1, dim=1)
    away = (frame.x - x) / (radius * (0.7 + 1.6 * below))
    present = frame.column([float(scene.body != "none") for scene in frame.scenes])
    glitter = torch.exp(-away * away) * (0.25 + 0.75 * crest) * 0.65 * (1 - 0.5 * below) * present
    colour = over(colour.expand(-1, 3, -1, frame.x.shape[-1]), frame.body, glitter)
    return over(image, colour, edge(frame.y - frame.horizon, frame.pixel))


def paint_lake(image: Tensor, frame: Frame) -> Tensor:
    """Water over the mirrored land: darker, tinted by the sky, with a bright line at the shore."""
    chosen = frame.where(lake=True)
    if chosen:
        image[chosen] = _lake(image[chosen], frame.select(chosen))
    return image


def _lake(image: Tensor, frame: Frame) -> Tensor:
    depth = frame.depth.clamp(min=0)
    water = frame.high * 0.6 + frame.tint * frame.light * 0.2
    surface = torch.lerp(image * 0.92, water.expand_as(image), 0.22 + 0.5 * depth.clamp(0, 0.5))
    surface = surface * (1 + 0.16 * (ripples(frame, depth, frame.seed + 9) - 0.2))
    shore = torch.exp(-depth / 0.004) * 0.25
    return over(image, over(surface, frame.low, shore), edge(frame.depth, frame.pixel))


def ripples(frame: Frame, depth: Tensor, seed: Tensor) -> Tensor:
    """Crests of water in [0, 1], (B, 1, H, W): rows of dashes, each octave of rows half as wide as the one before.

    depth: (B, 1, H, 1), how far below the far shore; rows are denser there.
    """
    total = torch.zeros_like(frame.x)
    near = depth.clamp(min=0) + 0.02
    for octave in range(OCTAVES):
        rows = 14.0 * 2.0**octave
        spacing = near / rows  # height of a row at this depth, in scene units
        visible = ((spacing / frame.pixel) / 2 - 0.5).clamp(0, 1)
        if not bool((visible > 0).any()):
            break
        phase = torch.log(near) * rows  # equal steps towards the viewer look ever wider
        row = torch.floor(phase).to(torch.int64)
        profile = 1 - (2 * saw(phase) - 1).square()
        length = (6.0 + 10.0 * uniform(seed + 31 * octave, row)) * (0.14 / near).clamp(max=6) * 2.0 ** (0.7 * octave)
        wave = torch.sin(frame.x * length + 50 * uniform(seed + 17 * octave, row))
        dash = ((wave - 0.55) * 3).clamp(0, 1) * profile * visible
        total = torch.maximum(total, dash * 0.85**octave)
    return total
