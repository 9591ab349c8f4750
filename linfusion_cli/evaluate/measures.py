"""Measures of pixels alone: the number and roundness of suns or moons, seams along a grid, sharpness, texture."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.landscapes.frame import BODY

COUNT_PX = 192  # images are shrunk to this height before discs are counted
TOLERANCE = {"sun": 0.07, "moon": 0.13}  # largest difference of a channel, in [0, 1]; the moon has dark seas
SMALLEST, LARGEST = 0.08, 0.32  # diameter over image height; 0.10 to 0.22 in scenes, often less for patches of haze
ROUND, FULL = 0.55, 0.80  # shorter over longer side, area over that of an ellipse
FINE_PX = 1024  # images are shrunk to this height before the edge of a disc is looked at
SECTORS = 16  # of a disc, whose radii are compared
CENTRINGS = 3  # a disc's centre and radius are found that often, each from the ones before
PERIODS_PX = (8, 32, 64, 128, 256, 512)
SPECTRUM_PX = 128
TEXTURE_OCTAVES = 5
TEXTURES = TEXTURE_OCTAVES * 3 * 2  # numbers that describe a crop


def to_height(image: Tensor, height_px: int) -> Tensor:
    """Shrinks a uint8 image (3, height, width) to at most height_px by area means; float32 in [0, 1]."""
    pixels = image[None].float() / 255
    if image.shape[1] > height_px:
        pixels = F.interpolate(
            pixels, size=(height_px, round(image.shape[2] * height_px / image.shape[1])), mode="area"
        )
    return pixels[0]


def count_discs(image: Tensor, body: str) -> int:
    """The number of suns or moons in a uint8 image (3, height, width): round patches of their colour.

    body: "sun" or "moon"
    """
    return len(_discs(to_height(image, COUNT_PX), body))


def disc_errors(image: Tensor, body: str) -> list[float]:
    """How far each sun or moon in a uint8 image (3, height, width) is off round: 0 for a circle.

    It is the root mean square of the differences between the radii of SECTORS sectors and their mean, over that mean. A
    sector's radius is that of the circle with its area, where a pixel counts by how near its colour is to the disc's on
    the way from the sky's. What hides a part of a disc counts as well: compare with renders.

    body: "sun" or "moon"
    """
    small, fine = to_height(image, COUNT_PX), to_height(image, FINE_PX)
    scale = fine.shape[1] / small.shape[1]
    return [
        _off_round(fine, (patch.nonzero().float().mean(0) + 0.5) * scale, scale * _radius(patch))
        for patch in _discs(small, body)
    ]


def _discs(pixels: Tensor, body: str) -> list[Tensor]:
    """The masks (height, width) of the suns or moons in an image of COUNT_PX rows at most."""
    colour = torch.tensor(BODY[body], device=pixels.device).view(3, 1, 1)
    labels = components((pixels - colour).abs().amax(0) < TOLERANCE[body])
    patches = (labels == label for label in labels.unique().tolist() if label)
    return [patch for patch in patches if _is_disc(patch, pixels.shape[1])]


def _radius(weights: Tensor) -> float:
    """Of the circle whose area is the sum of the weights, in pixels."""
    return math.sqrt(float(weights.sum()) / math.pi)


def _off_round(pixels: Tensor, centre: Tensor, radius: float) -> float:
    """See disc_errors. centre: (2,), row and column where the disc is looked for; radius: in pixels, likewise."""
    rows, columns = (torch.arange(count, device=pixels.device) + 0.5 for count in pixels.shape[1:])
    for _ in range(CENTRINGS):
        down, right = rows[:, None] - centre[0], columns - centre[1]
        distance = (down.square() + right.square()).sqrt()
        around = (distance > 1.35 * radius) & (distance < 1.6 * radius) & (down < 0.3 * radius)  # the sky, not the land
        disc, sky = (pixels[:, mask].median(1).values.view(3, 1, 1) for mask in (distance < 0.6 * radius, around))
        share = ((pixels - sky) * (disc - sky)).sum(0) / (disc - sky).square().sum().clamp(min=1e-6)
        # only the middle of the way: the sky's gradient and the moon's seas are no edge
        weights = ((share - 0.25) * 2).clamp(0, 1) * (distance < 1.35 * radius)
        total = weights.sum().clamp(min=1e-6)
        centre = torch.stack([(weights.sum(1) * rows).sum() / total, (weights.sum(0) * columns).sum() / total])
        radius = max(1.0, _radius(weights))
    turn = torch.atan2(down, right) / (2 * math.pi) + 0.5
    sector = (turn * SECTORS).long().clamp(max=SECTORS - 1).flatten()
    area, full = (
        torch.zeros(SECTORS, device=pixels.device).index_add_(0, sector, values.flatten().float())
        for values in (weights, distance < radius)  # counted on the same pixels, so that their grid cancels
    )
    radii = (area / full.clamp(min=1)).sqrt()
    return float((radii - radii.mean()).square().mean().sqrt() / radii.mean().clamp(min=1e-6))


def components(mask: Tensor) -> Tensor:
    """Labels the connected patches (eight neighbours) of a boolean mask (height, width): int64, 0 outside."""
    height, width = mask.shape
    labels = (
        torch.arange(1, height * width + 1, device=mask.device, dtype=torch.float64).view(1, 1, height, width)
    ) * mask
    while True:
        grown = F.max_pool2d(labels, 3, stride=1, padding=1) * mask
        if torch.equal(grown, labels):
            return labels[0, 0].long()
        labels = grown


def _is_disc(patch: Tensor, height_px: int) -> bool:
    rows, columns = patch.any(1).nonzero().flatten(), patch.any(0).nonzero().flatten()
    tall, wide = int(rows[-1] - rows[0]) + 1, int(columns[-1] - columns[0]) + 1
    full = float(patch.sum()) / (math.pi / 4 * tall * wide)
    return (
        SMALLEST <= max(tall, wide) / height_px <= LARGEST
        and min(tall, wide) / max(tall, wide) >= ROUND
        and full >= FULL
    )


def seam_score(image: Tensor) -> float:
    """How much more pixels change across the lines of a grid than beside them: 1 = no grid, more = seams.

    image: uint8 (3, height, width)
    It is the largest ratio over the grids of PERIODS_PX, by rows and by columns, of the median change across a grid's
    lines to the median change across the neighbouring lines.
    """
    levels = image.float().mean(0)
    worst = 1.0
    for change in (levels.diff(dim=0).abs().mean(1), levels.diff(dim=1).abs().mean(0)):
        for period in PERIODS_PX:
            lines = torch.arange(period - 1, len(change) - 1, period, device=change.device)
            if len(lines) < 3:
                break
            across, beside = change[lines], (change[lines - 1] + change[lines + 1]) / 2
            worst = max(worst, float((across.median() + 0.05) / (beside.median() + 0.05)))
    return worst


def band_energies(image: Tensor) -> list[float]:
    """Mean spectral power per octave in dB, finest first: periods of 2 to 4, 4 to 8 and 8 to 16 pixels.

    image: uint8 (3, height, width); it is analysed in squares of 128 pixels, or of its shorter side, in a Hann window
    """
    levels = image.float().mean(0) / 255
    side = min(SPECTRUM_PX, *levels.shape)
    squares = levels.unfold(0, side, side).unfold(1, side, side).reshape(-1, side, side)
    window = torch.hann_window(side, periodic=False, device=levels.device)
    spectrum = (
        torch.fft.fft2((squares - squares.mean((1, 2), keepdim=True)) * window[:, None] * window).abs().square().mean(0)
    )
    frequency = torch.fft.fftfreq(side, device=levels.device).abs()
    radius = torch.maximum(frequency[:, None], frequency)
    bands = [(1 / 4, 1 / 2), (1 / 8, 1 / 4), (1 / 16, 1 / 8)]
    return [float(10 * torch.log10(spectrum[(radius > low) & (radius <= high)].mean() + 1e-9)) for low, high in bands]


def texture(crops: Tensor) -> Tensor:
    """Features of the detail in crops, uint8 (count, 3, side, side) with side a multiple of 32: (count, 30).

    For each of five octaves of a Laplacian pyramid and each colour: the logarithms of the mean magnitude and the root
    mean square. They depend more on sharpness than on content; the classifier's features are the reverse.
    """
    levels = crops.float() / 255
    numbers: list[Tensor] = []
    for _ in range(TEXTURE_OCTAVES):
        coarse = F.avg_pool2d(levels, 2)
        band = levels - F.interpolate(coarse, scale_factor=2, mode="bilinear")
        numbers += [(band.abs().mean((2, 3)) + 1e-3).log(), (band.square().mean((2, 3)).sqrt() + 1e-3).log()]
        levels = coarse
    return torch.cat(numbers, dim=1)
