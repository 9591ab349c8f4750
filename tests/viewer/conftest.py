"""Images of many kinds, and their pixels as Pillow reads them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest


@pytest.fixture(scope="session")
def photo() -> np.ndarray[Any, Any]:
    """Smooth colours with some noise, uint8 (203, 517, 3): sides that no tile and no band divides."""
    rng = np.random.default_rng(1)
    rows, columns = np.mgrid[0:203, 0:517]
    smooth = np.stack([columns / 517, rows / 203, (rows + columns) / 720], axis=2) * 255
    return (smooth + rng.normal(0, 3, smooth.shape)).clip(0, 255).astype(np.uint8)
