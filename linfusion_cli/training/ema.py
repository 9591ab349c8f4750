"""The exponential moving average of a model's weights, which is what a run delivers."""

from __future__ import annotations

from torch import nn


class MovingAverage:
    """Exponential moving average of every entry of a model's state, in the state's own number formats.

    Early on it forgets faster than `decay` says: the first steps are far from the last.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Takes over the weights after step `step` (counted from 0)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)
