"""How long and how fast to train."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = ("cosine", "constant")


@dataclass(frozen=True, slots=True)
class Schedule:
    """Steps and learning rate of a run.

    With `minutes` the run may end before its steps, its rate fully decayed all the same. `warmup` counts steps.
    """

    steps: int
    learning_rate: float
    minutes: float = math.inf
    warmup: int = 100
    shape: str = "cosine"

    def rate(self, progress: float, step: int) -> float:
        """Warm-up, then constant, or a cosine to zero over progress in [0, 1]."""
        rising = self.learning_rate * min(1.0, (step + 1) / max(self.warmup, 1))
        return rising if self.shape == "constant" else rising * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
