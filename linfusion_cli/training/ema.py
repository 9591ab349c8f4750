"""The exponential moving average of a model's weights, which a run gives as its result."""

from __future__ import annotations

from torch import nn


class MovingAverage:
    """Exponential moving average of every tensor of a model's state_dict, in the tensor's own number format.

    decay: the share of the average that a step keeps, 0 to below 1; 0 = the weights themselves. The first steps keep
           less, (step + 1) / (step + 10), because the initial weights are far from the trained ones.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.weights = {name: value.detach().clone() for name, value in model.state_dict().items()}

    def update(self, model: nn.Module, step: int) -> None:
        """Adds the weights after step `step`, counted from 0. Integer tensors are copied."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, value in model.state_dict().items():
            if value.is_floating_point():
                self.weights[name].lerp_(value, 1 - decay)
            else:
                self.weights[name].copy_(value)
