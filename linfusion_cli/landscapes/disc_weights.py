"""Where a loss counts more: at suns and moons, a fiftieth of an image, which the eye sees first.

It is for the autoencoder's and the upscale's. It is not for what composes: where noise still hides whether there is a
disc, the least weighted error is that of one too large (docs/log.md, 2026-11-29).
"""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.landscapes.frame import View, body_place
from linfusion_cli.landscapes.scene import Scene

WEIGHT = 10.0  # of the rim and the face of a disc, where everything else has 1
INSIDE, OUTSIDE = 0.6, 0.35  # how far from its rim a disc's weight reaches, in radii
LEAST_INSIDE = 2.0  # pixels: a small disc counts whole


def disc_in_view(scene: Scene, view: View, height_px: int) -> tuple[float, float, float]:
    """Centre x, centre y and radius in pixels of the sun or moon in an image of `view`; radius 0 = there is none."""
    if scene.body == "none":
        return 0.0, 0.0, 0.0
    x, y, radius = body_place(scene)
    scale = height_px / view.extent
    return (x - view.left) * scale, (y - view.top) * scale, radius * scale


def disc_weights(discs: Tensor, height: int, width: int) -> Tensor:
    """How much each pixel counts: (batch, 1, height, width), each image's mean is 1.

    discs: (batch, 3), centre x, centre y and radius in units of these pixels; radius 0 = none. What hides a disc is
           not known here: land in front of it counts like the disc.
    """
    x, y, radius = (column.view(-1, 1, 1, 1) for column in discs.unbind(1))
    down = torch.arange(height, device=discs.device).view(1, 1, height, 1) + 0.5 - y
    right = torch.arange(width, device=discs.device).view(1, 1, 1, width) + 0.5 - x
    beyond = (down.square() + right.square()).sqrt() - radius  # the rim; negative inside
    near = torch.minimum(OUTSIDE * radius - beyond, (INSIDE * radius).clamp(min=LEAST_INSIDE) + beyond)
    weights = 1 + (WEIGHT - 1) * (near + 0.5).clamp(0, 1) * (radius > 0)
    return weights / weights.mean((1, 2, 3), keepdim=True)
