"""A small network that names an image's attributes, and whose features the Fréchet distance uses."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.errors import WeightsError, option
from linfusion_cli.evaluate.attributes import ATTRIBUTES
from linfusion_cli.files import replacing

INPUT_PX = 128
FEATURES = 64
EXTENTS = 5  # classes of a window's size: the whole scene, 1/2, 1/4, 1/8, 1/16
BLURS = 4  # classes of sharpness: as rendered, or enlarged 1.5, 2 or 4 times
CHANNELS = (16, 32, 64, 96)


class Block(nn.Module):
    """Halves the size: a convolution of stride 2, then a residual convolution."""

    def __init__(self, entering: int, channels: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(entering, channels, 3, stride=2, padding=1)
        self.norm = nn.GroupNorm(8, channels)
        self.same = nn.Conv2d(channels, channels, 3, padding=1)
        self.same_norm = nn.GroupNorm(8, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(batch, entering, height, width) to (batch, channels, height / 2, width / 2), rounded up."""
        x = F.silu(self.norm(self.down(x)))
        return x + F.silu(self.same_norm(self.same(x)))


class Classifier(nn.Module):
    """Names the attributes of images (batch, 3, 128, 128) by 64 features of each.

    There is a head for each of ATTRIBUTES, and for training one for "extent" (the window's size) and one for "blur", so
    that the features hold size and sharpness as well.
    """

    def __init__(self) -> None:
        super().__init__()
        widths = (3, *CHANNELS)
        self.blocks = nn.Sequential(*(Block(*pair) for pair in pairwise(widths)))
        self.project = nn.Linear(2 * CHANNELS[-1], FEATURES)
        heads = {name: len(classes) for name, classes in ATTRIBUTES.items()} | {"extent": EXTENTS, "blur": BLURS}
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, count) for name, count in heads.items()})

    def features(self, images: Tensor) -> Tensor:
        """Images (batch, 3, 128, 128), float32 in [0, 1], to features (batch, 64)."""
        maps = self.blocks(images * 2 - 1)
        pooled = torch.cat([maps.mean((2, 3)), maps.amax((2, 3))], dim=1)  # the maximum shows small things, as stars
        result: Tensor = self.project(pooled)
        return result

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Images (batch, 3, 128, 128), float32 in [0, 1], to the logits (batch, classes) of each head."""
        features = F.silu(self.features(images))
        return {name: head(features) for name, head in self.heads.items()}

    @torch.inference_mode()
    def embed(self, images: Tensor, batch: int = 64) -> Tensor:
        """Features (count, 64), on the CPU, of uint8 images (count, 3, 128, 128); takes `batch` images at a time."""
        return torch.cat([self.features(part.float() / 255).cpu() for part in self._parts(images, batch)])

    @torch.inference_mode()
    def name(self, images: Tensor, batch: int = 64) -> list[dict[str, str]]:
        """The likeliest class of each attribute, for each of uint8 images (count, 3, 128, 128)."""
        named: list[dict[str, str]] = []
        for part in self._parts(images, batch):
            logits = self(part.float() / 255)
            chosen = {name: logits[name].argmax(1).tolist() for name in ATTRIBUTES}
            named += [
                {name: ATTRIBUTES[name][chosen[name][index]] for name in ATTRIBUTES} for index in range(len(part))
            ]
        return named

    def _parts(self, images: Tensor, batch: int) -> Iterator[Tensor]:
        device = next(self.parameters()).device
        return (part.to(device) for part in images.split(batch))


def save_classifier(classifier: Classifier, path: Path) -> int:
    """Writes the weights in float16; returns the file's size in bytes."""
    weights = {name: value.half().contiguous() for name, value in classifier.state_dict().items()}
    with replacing(path) as part:
        save_file(weights, part)
    return path.stat().st_size


def load_classifier(path: Path) -> Classifier:
    """Reads what `save_classifier` wrote, in float32 on the CPU.

    Raises WeightsError if the file is missing or does not hold the tensors of this Classifier.
    """
    classifier = Classifier()
    try:
        classifier.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    except (OSError, RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{path}: not the classifier's weights. Train them with: linfusion evaluate ", option("train_classifier")
        ) from error
    return classifier.eval()
