"""Number formats by name, and the one of sums over a whole image."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def for_sums(values: Tensor) -> torch.dtype:
    """The dtype of sums over a whole image: float64, and float32 on Apple's GPUs, which lack it.

    In float64, millions of terms add up to the same rounded result in any order of bands.
    """
    return torch.float32 if values.device.type == "mps" else torch.float64
