"""Conifers: a row of them along a ground line, with tiers, branches and needles that show from ever closer."""

from __future__ import annotations

import torch
from torch import Tensor

from linfusion_cli.landscapes.frame import Frame, edge, saw
from linfusion_cli.landscapes.value_noise import uniform

TIERS = 6


def tree_row(
    frame: Frame, ground: Tensor, seed: Tensor, pitch: Tensor, tall: Tensor, share: Tensor | float = 1.0
) -> tuple[Tensor, Tensor]:
    """A row of trees that stand on `ground` (B, 1, 1, W).

    pitch, tall: distance between two trunks and height of a middling tree, in scene units
    share:       the part of the places that hold a tree
    Returns coverage (B, 1, H, W) and where on its tier each point lies (0 at the tier's lower rim, 1 at its top).
    """
    position = frame.x / pitch + 50 * uniform(seed, 2)
    column = torch.floor(position).to(torch.int64)
    centre = 0.35 + 0.3 * uniform(seed + 7, column)
    grown = (0.55 + 0.75 * uniform(seed + 3, column)) * (uniform(seed + 5, column) < share)
    side = (saw(position) - centre) * pitch  # from the trunk, in scene units
    height = (ground - frame.y) / (tall * grown).clamp(min=1e-6)  # 0 at the root, 1 at the tip
    phase = height * TIERS
    tier = saw(phase)
    branch = 0.5 + 0.5 * (1 - tier)
    for fineness, depth in ((5.0, 0.16), (29.0, 0.07), (167.0, 0.03)):  # branches, twigs, needles
        visible = frame.shows(0.25 * tall / (TIERS * fineness))
        if not bool((visible > 0).any()):
            break
        branch = branch * (1 - depth * visible * (saw(phase * fineness + side.abs() / pitch * 3) - 0.5) * 2)
    half = 0.5 * pitch * (1 - height).clamp(0, 1) * branch
    trunk = 0.035 * pitch * (height < 0.9)
    standing = (height > -0.05) & (height < 1)
    cover = edge(torch.maximum(half * (height > 0.06), trunk) - side.abs(), frame.pixel) * standing
    return cover, tier
