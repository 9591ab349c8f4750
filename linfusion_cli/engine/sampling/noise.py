"""Counter-based Gaussian noise: each number is a function of (seed, stage, draw, channel, row, column) alone.

So the noise is the same for any band height, device, process or resume point (design 3), and a checkpoint needs no
state of a random generator.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

STAGE_NOISE = 0  # the draw that starts a stage; step i of a stochastic scheduler uses draw i + 1
EDGE_NOISE = 1 << 20  # the draw of extra noise at edges; no stage has so many steps
_WORD = 1 << 64


def gaussian(shape: tuple[int, int, int, int], seed: int, stage: int, draw: int = STAGE_NOISE, top: int = 0) -> Tensor:
    """Standard normal numbers, float32 on the CPU.

    shape: (1, channels, rows, columns); `top` is the image row (in latents) of the first row asked for.
    The columns of one row come from one Philox stream (Salmon et al. 2011), turned normal by Box and Muller's formula,
    so the stream is ours and no library's choice of algorithm can change it.
    """
    _, channels, rows, columns = shape
    noise = np.empty(shape, dtype=np.float32)
    for channel in range(channels):
        for row in range(rows):
            noise[0, channel, row] = _row(columns, seed, (stage, draw, channel, top + row))
    return torch.from_numpy(noise)


def generator(seed: int, stage: int, draw: int) -> torch.Generator:
    """A new generator for each (seed, stage, draw), for schedulers that draw noise: it needs no saved state."""
    start = np.random.Philox(key=_key(seed, stage, draw)).random_raw()
    return torch.Generator().manual_seed(int(start) >> 1)


def _key(seed: int, stage: int, draw: int) -> int:
    return (seed % _WORD) | (((stage << 32) | draw) % _WORD) << 64


def _row(columns: int, seed: int, position: tuple[int, int, int, int]) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    stage, draw, channel, row = position
    counter = (((channel << 32) | row) % _WORD) << 192  # the low words count along the row
    bits = np.random.Philox(key=_key(seed, stage, draw), counter=counter).random_raw(columns)
    radius = np.sqrt(-2.0 * np.log(((bits >> np.uint64(32)).astype(np.float64) + 0.5) / 2.0**32))
    angle = (bits & np.uint64(0xFFFFFFFF)).astype(np.float64) * (2.0 * np.pi / 2.0**32)
    result: np.ndarray[tuple[int], np.dtype[np.float32]] = (radius * np.cos(angle)).astype(np.float32)
    return result
