"""The Fréchet inception distance (FID, arXiv 1706.08500) between two folders of images, through torchmetrics."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.errors import UsageError, WeightsError, option
from linfusion_cli.evaluate.samples import read_image

INCEPTION_PX = 299
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")
UNREADABLE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
NAMED = 5  # unreadable files that a note names


@dataclass(frozen=True, slots=True)
class InceptionDistance:
    """The Fréchet distance of the Inception features of two folders of images (arXiv 1706.08500)."""

    kind: ClassVar[str] = "fid"
    fid: float

    def as_dict(self) -> dict[str, Any]:
        """The distance for JSON."""
        return {"fid": self.fid}

    def lines(self) -> Iterator[str]:
        """The distance as text."""
        yield f"FID {self.fid:.3f}"


def compare_folders(
    ours: Path, theirs: Path, weights: Path | None, device: str, features: nn.Module | None = None
) -> Iterator[str | InceptionDistance]:
    """Computes FID between the images in two folders, each scaled to 299 x 299 pixels; yields notes and the result.

    Subfolders are read as well. Unreadable images are skipped with a note.

    weights:  file of Inception-v3's weights, as torch-fidelity publishes them; None = the cache of torch hub
    device:   of torch, such as "cpu" or "cuda"
    features: another network instead of Inception-v3: uint8 (batch, 3, 299, 299) to (batch, dim), with num_features

    Raises UsageError without the [eval] extra, without a folder or with fewer than two readable images in it, and
    WeightsError without the weights.
    """
    metric = _metric(weights, features).to(device)
    for folder, real in ((theirs, True), (ours, False)):
        count = 0
        lost: list[str] = []
        for path in image_files(folder):
            try:
                image = read_image(path)
            except UNREADABLE as error:
                lost.append(f"{path.name}: {type(error).__name__}")
                continue
            metric.update(scaled(image).to(device), real=real)
            count += 1
        if count < 2:
            named = "".join(f"\n  {line}" for line in lost[:NAMED])
            raise UsageError(
                f"{folder}: {count} of {count + len(lost)} images can be read; FID needs two at least{named}"
            )
        yield f"{folder}: {count} images" + (f", {len(lost)} skipped: {', '.join(lost[:NAMED])}" if lost else "")
    yield InceptionDistance(float(metric.compute()))


def inception_network(weights: Path | None, device: str) -> nn.Module:
    """Inception-v3 as FID has it: uint8 (batch, 3, 299, 299) to (batch, 2048). Raises as compare_folders() does."""
    network: nn.Module = _metric(weights, None).inception.to(device).eval()
    return network


def image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UsageError(f'"{folder}": there is no such folder of images')
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


def scaled(image: Tensor) -> Tensor:
    """A uint8 image (3, height, width) as the network sees it, whatever its shape: (1, 3, 299, 299)."""
    pixels = F.interpolate(
        image[None].float(), size=(INCEPTION_PX, INCEPTION_PX), mode="bicubic", antialias=True, align_corners=False
    )
    return pixels.round().clamp(0, 255).to(torch.uint8)


def _metric(weights: Path | None, features: nn.Module | None) -> Any:
    if weights is not None and not weights.is_file():
        raise WeightsError(f"{weights}: there is no such file", parameter="inception")
    try:
        from torchmetrics.image.fid import FrechetInceptionDistance

        if features is not None:
            return FrechetInceptionDistance(feature=features)
        found = str(weights or _hub_weights())
        return FrechetInceptionDistance(feature=2048, feature_extractor_weights_path=found)
    except ImportError as error:  # torchmetrics raises its own kind of it where torch-fidelity is missing
        raise UsageError("FID needs torchmetrics and torch-fidelity: pip install 'linfusion-cli[eval]'") from error


def _hub_weights() -> Path:
    name = "pt_inception-2015-12-05-6726825d.pth"
    home = Path(os.environ.get("TORCH_HOME", "~/.cache/torch")).expanduser()
    path = home / "hub" / "checkpoints" / name
    if not path.is_file():
        release = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
        url = f"{release}/weights-inception-2015-12-05-6726825d.pth"
        raise WeightsError(
            f"Inception's weights are not on this machine. Fetch them: curl -L {url} -o {name}, and name them with ",
            option("inception"),
            f" {name}",
        )
    return path
