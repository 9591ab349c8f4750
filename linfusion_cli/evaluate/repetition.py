"""How much an image repeats itself: the fault of models above their training size, found without any network."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from linfusion_cli.evaluate.measures import to_height

HEIGHT_PX, PATCH_PX, STRIDE_PX = 96, 16, 2  # a patch holds an object of a sixth of the height
WINDOW_PX = 7  # over which the local mean is taken away: a gradient of the sky is no object
FLAT = 0.02  # standard deviation below which a patch shows nothing: a clear sky is no repetition
STRAIGHT = 0.5  # roundness (1: as many edges in each direction) below which it is a line, which is alike along itself
SHARE = 0.1  # of the patches with the nearest twins, which are averaged
BLOCK = 1024  # patches that are compared with all others at a time


def repetition(image: Tensor) -> float:
    """The likeness of the patches that have the nearest twins elsewhere in an image, 0 to 1 (1 = tiled).

    image: uint8 (3, height, width)
    It is shrunk, its local mean taken away, and cut into overlapping patches, in colour. A patch's twin is the one with
    the greatest normalised correlation that does not overlap it. Patches that are flat or show a straight line alone do
    not count: 0 where there are no others.
    """
    small = to_height(image, HEIGHT_PX)
    if min(small.shape[1:]) < PATCH_PX:
        return 0.0
    local = F.avg_pool2d(small, WINDOW_PX, stride=1, padding=WINDOW_PX // 2, count_include_pad=False)
    detail = small - local
    patches = F.unfold(detail[None], PATCH_PX, stride=STRIDE_PX)[0].T  # (patches, 3 * side * side), row by row
    columns = (small.shape[2] - PATCH_PX) // STRIDE_PX + 1
    centred = (patches.unflatten(1, (3, -1)) - patches.unflatten(1, (3, -1)).mean(2, keepdim=True)).flatten(1)
    busy = centred.square().mean(1).sqrt() > FLAT
    shown = (busy & (_roundness(detail) > STRAIGHT)).nonzero().flatten()
    if len(shown) < 2:
        return 0.0
    unit, rows, across = F.normalize(centred[shown], dim=1), shown // columns, shown % columns
    nearest = torch.cat([_nearest(unit, rows, across, start) for start in range(0, len(unit), BLOCK)])
    return float(nearest.topk(max(1, round(SHARE * len(nearest)))).values.mean())


def _roundness(detail: Tensor) -> Tensor:
    """4 det / trace^2 of each patch's structure tensor (the mean product of its gradients): 0 for a line, at most 1."""
    levels = F.pad(detail.mean(0)[None], (0, 1, 0, 1), mode="replicate")
    down, right = levels.diff(dim=1)[:, :, :-1], levels.diff(dim=2)[:, :-1]
    products = torch.cat([down * down, right * right, down * right])
    first, second, both = F.avg_pool2d(products, PATCH_PX, stride=STRIDE_PX).flatten(1)
    rounded: Tensor = 4 * (first * second - both * both) / (first + second).square().clamp(min=1e-12)
    return rounded


def _nearest(unit: Tensor, rows: Tensor, across: Tensor, start: int) -> Tensor:
    """The likeness of BLOCK patches from `start` to their nearest twins; 0 for one that all others overlap."""
    span, reach = slice(start, start + BLOCK), PATCH_PX // STRIDE_PX
    apart = torch.maximum((rows[span, None] - rows).abs(), (across[span, None] - across).abs()) >= reach
    return (unit[span] @ unit.T).where(apart, 0.0).max(1).values.clamp(0, 1)
