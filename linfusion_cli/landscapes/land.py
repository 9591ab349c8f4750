"""The land: layers of ridges from far to near, with rock, trees, snow and mist on them."""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.landscapes.frame import SNOW, Frame, edge, over, saw
from linfusion_cli.landscapes.trees import tree_row
from linfusion_cli.landscapes.value_noise import fractal, mix, uniform

# Ridge shape by terrain: lowest frequency, gain, octaves, height.
RIDGE = {
    "mountains": (2.2, 0.50, 14, 0.36),
    "hills": (1.4, 0.28, 11, 0.20),
    "dunes": (1.1, 0.30, 10, 0.17),
    "islands": (2.4, 0.45, 14, 0.26),
    "forest": (1.6, 0.35, 8, 0.16),
}
# Folds on a layer's face by terrain: distance of the largest, how ragged, how strong.
FOLDS = {
    "mountains": (0.075, 1.00, 0.14),
    "hills": (0.060, 0.35, 0.09),
    "dunes": (0.050, 0.25, 0.09),
    "islands": (0.030, 0.90, 0.14),
    "forest": (0.050, 0.50, 0.08),
}
FOLD_OCTAVES = 6


def paint_layer(image: Tensor, frame: Frame, index: int) -> Tensor:
    """Paints layer `index` (0 is the farthest) over the image, for scenes that have so many."""
    chosen = [number for number, scene in enumerate(frame.scenes) if scene.layers > index]
    if len(chosen) == len(frame.scenes):
        return _layer(image, frame, index)
    if chosen:
        image[chosen] = _layer(image[chosen], frame.select(chosen), index)
    return image


def _layer(image: Tensor, frame: Frame, index: int) -> Tensor:
    near = ((index + 1) / frame.column([float(scene.layers) for scene in frame.scenes])).clamp(max=1)
    seed = mix(frame.seed + 1000 * (index + 1))
    top, undulation, shore = _ridge(frame, seed, near)
    below = frame.y - top
    cover = torch.minimum(edge(below, frame.pixel), edge(shore - frame.y, frame.pixel))
    colour = frame.low * (1 - near) * 0.72 + frame.tint * frame.light * (1 - (1 - near) * 0.72) * (1.0 - 0.45 * near)
    colour = colour * (1.06 - 0.35 * below.clamp(0, 0.4))
    colour = _snow(colour, frame, below, undulation, seed) * _folds(frame, below, undulation, seed, near)
    colour, cover = _planted(colour, cover, frame, torch.where(top < shore, top, 9.0), seed, near)
    return over(image, _mist(colour, frame, below, seed, near), cover)


def _ridge(frame: Frame, seed: Tensor, near: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The skyline of a layer (B, 1, 1, W), its undulation in [0, 1], and the water line where an island ends."""
    undulation, height = torch.full_like(frame.x, 0.5), torch.zeros_like(frame.pixel)
    x = frame.x + 50 * uniform(seed, 1)
    for name, (frequency, gain, octaves, tall) in RIDGE.items():
        chosen = frame.where(terrain=name)
        if chosen:
            wave = fractal(x[chosen], seed[chosen], frequency, gain, octaves, frame.pixel[chosen])
            undulation[chosen] = 1 - (2 * wave - 1).abs() * 1.6 if name == "dunes" else wave
            height[chosen] = tall
    top = frame.horizon + 0.30 * (near - 0.28) - height * (1.25 - 0.5 * near) * (undulation - 0.30) * 1.5
    isle = frame.column([float(scene.terrain == "islands") for scene in frame.scenes]) > 0
    water_line = frame.horizon + 0.30 * (near - 0.15)
    shore = torch.where(isle, water_line, torch.full_like(near, 9.0))
    return torch.where(isle, water_line - 0.5 * (undulation - 0.48), top), undulation, shore


def _folds(frame: Frame, below: Tensor, undulation: Tensor, seed: Tensor, near: Tensor) -> Tensor:
    """Light and shade on a layer's face, about 1: ledges that follow the ridge, each octave a third as wide."""
    spacing, ragged, strength = (
        frame.column([FOLDS[scene.terrain][axis] for scene in frame.scenes]) for axis in range(3)
    )
    shade = torch.ones_like(below)
    for octave in range(FOLD_OCTAVES):
        width = spacing / 3.0**octave
        visible = ((width / frame.pixel) / 6 - 1).clamp(0, 1)
        if not bool((visible > 0).any()):
            break
        wobble = fractal(frame.x + 2.9 * octave, seed + 61 * (octave + 1), 5.0 * 2.6**octave, 0.5, 8, frame.pixel) - 0.5
        slant = 0.5 * uniform(seed, 91 + octave) - 0.25
        phase = (below + slant * frame.x) / width + 4.0 * ragged * wobble + 2.0 * undulation
        rising = saw(phase)
        ledge = torch.minimum(rising, (1 - rising) * width / frame.pixel)  # the step back down takes a pixel, no less
        shade = shade + strength * (0.6 if octave == 0 else 0.8**octave) * (0.35 + 0.65 * near) * visible * (
            0.4 - ledge
        ) * (below / width).clamp(0, 1)
    return shade


def _planted(
    colour: Tensor, cover: Tensor, frame: Frame, top: Tensor, seed: Tensor, near: Tensor
) -> tuple[Tensor, Tensor]:
    """A forest's rows of trees. Hills, mountains and islands get groups of trees on the ridge, visible from near."""
    rows = _rows(frame, near)
    if rows:
        cover, colour = cover.expand_as(colour[:, :1]).clone(), colour.clone()
    for chosen, pitch, tall in rows:
        part, ground = frame.select(chosen), top[chosen]
        plant = colour[chosen]
        dark = (
            part.low * (1 - near[chosen]) * 0.72
            + part.tint * part.light * (1 - (1 - near[chosen]) * 0.72) * (1.0 - 0.45 * near[chosen])
        ) * 0.94
        for row in range(2):
            wooded = fractal(part.x, seed[chosen] + 71, 9.0, 0.5, 4, part.pixel)
            share = (1.0 if part.scenes[0].terrain == "forest" else 0.0) + (wooded - 0.52) * 5
            trees, tier = tree_row(
                part, ground + 0.12 * tall * row, seed[chosen] + 400 * row, pitch, tall, share.mean(-1, keepdim=True)
            )
            snowy = part.column([float(scene.snow) for scene in part.scenes])
            white = _white(part)
            caps = torch.lerp(
                torch.full_like(tier, 0.3), ((tier - 0.6) * 4).clamp(0, 0.85), part.shows(0.17 * tall)
            )  # tiers too small to see are pale
            needles = torch.lerp(dark * (1.05 - 0.22 * tier), white.expand(-1, 3, -1, -1), snowy * caps)
            plant = over(plant, needles, trees)
            cover[chosen] = torch.maximum(cover[chosen], trees)
        colour[chosen] = plant
    return colour, cover


def _rows(frame: Frame, near: Tensor) -> list[tuple[list[int], Tensor, Tensor]]:
    """Which scenes have trees of which distance and height."""
    rows = []
    for terrains, pitch, tall in ((("forest",), 0.040, 0.125), (("hills", "mountains", "islands"), 0.0052, 0.0125)):
        chosen = [index for index in frame.where(terrain=terrains) if tall / float(frame.pixel[index]) > 3]
        if chosen:
            scale = near[chosen] + 0.3
            rows.append((chosen, pitch * scale, tall * scale))
    return rows


def _white(frame: Frame) -> Tensor:
    return torch.tensor(SNOW, device=frame.x.device).view(1, 3, 1, 1) * (frame.light + 0.2).clamp(max=1)


def _snow(colour: Tensor, frame: Frame, below: Tensor, undulation: Tensor, seed: Tensor) -> Tensor:
    """Snow on the ridge: a cap, deeper on high ground, with a ragged lower edge."""
    chosen = frame.where(snow=True)
    if not chosen:
        return colour
    part = frame.select(chosen)
    ragged = fractal(part.x + 3.7, seed[chosen] + 5, 14.0, 0.55, 10, part.pixel)
    depth = 0.02 + 0.16 * (undulation[chosen] - 0.35).clamp(min=0) + 0.07 * (ragged - 0.5)
    white = _white(part) * (1 - 0.9 * below[chosen].clamp(0, 0.12))
    colour = colour.expand(-1, -1, -1, frame.x.shape[-1]).clone()
    colour[chosen] = over(colour[chosen], white, edge(depth - below[chosen], part.pixel))
    return colour


def _mist(colour: Tensor, frame: Frame, below: Tensor, seed: Tensor, near: Tensor) -> Tensor:
    """Fog that thickens downwards, in sheets with wavering upper edges."""
    chosen = frame.where(fog=True)
    if not chosen:
        return colour
    part, lower, close = frame.select(chosen), below[chosen], near[chosen]
    strength = 0.78 - 0.45 * close
    density = (lower / 0.2).clamp(0, 1) * 0.8
    for sheet in range(3):
        waver = (
            fractal(part.x + 7.1 * sheet, seed[chosen] + 83 * (sheet + 1), 1.6 * 1.7**sheet, 0.5, 9, part.pixel) - 0.5
        )
        start = 0.035 + 0.05 * sheet + 0.09 * waver
        density = density + 0.16 * ((lower - start) / 0.012).clamp(0, 1) * torch.exp(
            -(lower - start).clamp(min=0) / 0.06
        )
    colour = colour.expand(-1, -1, -1, frame.x.shape[-1]).clone()
    colour[chosen] = over(colour[chosen], part.low, density.clamp(0, 1) * strength)
    return colour
