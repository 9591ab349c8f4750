"""Number formats by name, and how precise sums over a whole image are."""

from __future__ import annotations

import torch
from torch import Tensor

DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def for_sums(values: Tensor) -> torch.dtype:
    """float64, in which millions of terms add up to the same in any order of bands; float32 on Apple's GPUs, which lack it."""
    return torch.float32 if values.device.type == "mps" else torch.float64
