"""The user's images as fields of rows, cut to the aspect of a size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from linfusion_cli.engine.memory.slabs import MemorySlab
from linfusion_cli.engine.streaming.row_source import Field, Mapped, Parked
from linfusion_cli.geometry import Size
from linfusion_cli.images.input_image import InputImage, read_pixels
from linfusion_cli.planning.input_check import no_opencv


def read_fitted(image: InputImage, parameter: str, size: Size) -> Tensor:
    """The pixels of an image, (1, 3, height, width), cut to the aspect of `size`.

    They are uint8, uint16 for images of 16 bits, or float32 in [0, 1]. Raises UsageError if the file is damaged.
    """
    return fitted(torch.from_numpy(read_pixels(image, parameter)).permute(2, 0, 1)[None], size)


def unit_field(pixels: Tensor, device: torch.device) -> Field:
    """Pixels (1, 3, height, width) as a field of float32 in [0, 1] on a device; they wait in RAM as they are."""
    _, channels, height, width = pixels.shape
    return Mapped(Parked(MemorySlab(pixels[0].permute(1, 2, 0)), height, width, channels, device), _unit)


def _unit(rows: Tensor) -> Tensor:
    if rows.dtype == torch.uint16:  # which has no arithmetic of its own
        return rows.to(torch.float32) / 65535
    return rows if rows.is_floating_point() else rows / 255


def fitted(pixels: Tensor, size: Size) -> Tensor:
    """The middle of an image (1, channels, height, width) in the aspect of `size`, as large as possible."""
    height, width = pixels.shape[2:]
    wide = max(1, min(width, round(height * size.width / size.height)))
    high = max(1, min(height, round(width * size.height / size.width)))
    left, top = (width - wide) // 2, (height - high) // 2
    return pixels[:, :, top : top + high, left : left + wide]


def canny(pixels: Tensor) -> Tensor:
    """White edges on black, uint8 (1, 3, height, width), for ControlNets of edges.

    Raises UsageError if OpenCV is not installed.
    """
    try:
        import cv2
    except ImportError as error:
        raise no_opencv() from error
    levels = pixels if pixels.dtype == torch.uint8 else (_unit(pixels) * 255).round().to(torch.uint8)
    rgb: Any = levels[0].permute(1, 2, 0).numpy()
    edges = cv2.Canny(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), 100, 200)
    return torch.from_numpy(edges)[None, None].expand(1, 3, -1, -1)
