"""The length of a training run and its learning rate at each step."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = ("cosine", "constant")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Length and learning rate of a run.

    steps:         the most steps, at least 1
    learning_rate: the highest rate
    minutes:       ends the run earlier; the cosine then ends at zero at that time
    warmup:        steps over which the rate rises linearly
    shape:         "cosine" (arXiv 1608.03983, without restarts) or "constant"
    """

    steps: int
    learning_rate: float
    minutes: float = math.inf
    warmup: int = 100
    shape: str = "cosine"

    def rate(self, progress: float, step: int) -> float:
        """The learning rate. progress: the part of the run that is done, 0 to 1; step: counted from 0."""
        rising = self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1))
        return rising if self.shape == "constant" else rising * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
