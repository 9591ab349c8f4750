"""How far the images of a model are from reference images, as a whole and in detail: FID, KID, and FID of patches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from linfusion_cli.evaluate.bootstrap import Score, distance_score, kernel_score
from linfusion_cli.evaluate.inception import INCEPTION_PX, scaled

PATCHES = 4  # of each image


@dataclass(frozen=True, slots=True)
class Features:
    """Features of a set of images: whole (images, dim) and patches (images * PATCHES, dim), those of one in a row."""

    whole: Tensor
    patches: Tensor

    @staticmethod
    def joined(images: Sequence[Features]) -> Features:
        """Those of several sets, in order."""
        return Features(torch.cat([one.whole for one in images]), torch.cat([one.patches for one in images]))


@torch.inference_mode()
def features_of(image: Tensor, index: int, network: nn.Module, device: str, seed: int) -> Features:
    """Those of one image, uint8 (3, height, width).

    whole: scaled to the network's 299 x 299 pixels, whatever its shape; patches: random squares of so many pixels at
    full resolution (as arXiv 2204.07156 measures detail), of the shorter side where the image is smaller, by the seed
    and the number of the image
    """
    rng = random.Random(f"patches/{seed}/{index}")
    crops = torch.cat([scaled(_crop(image, rng)) for _ in range(PATCHES)])
    whole, patches = (network(seen.to(device)).float().cpu() for seen in (scaled(image), crops))
    return Features(whole, patches)


def distances(ours: Features, theirs: Features) -> dict[str, Score]:
    """FID (arXiv 1706.08500), KID (arXiv 1801.01401) and FID of patches, with intervals."""
    return {
        "fid": distance_score(ours.whole, theirs.whole),
        "kid": kernel_score(ours.whole, theirs.whole),
        "patch fid": distance_score(ours.patches, theirs.patches, PATCHES),
    }


def _crop(image: Tensor, rng: random.Random) -> Tensor:
    height, width = image.shape[1:]
    side = min(INCEPTION_PX, height, width)
    top, left = rng.randint(0, height - side), rng.randint(0, width - side)
    return image[:, top : top + side, left : left + side]
