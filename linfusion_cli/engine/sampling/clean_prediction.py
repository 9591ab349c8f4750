"""How a change of the predicted clean latents x0 changes what the UNet predicted, for every kind of prediction."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

KINDS = ("epsilon", "v_prediction", "sample")


@dataclass(frozen=True, slots=True)
class CleanPrediction:
    """Converts between a UNet's prediction and x0 at one timestep.

    Noisy latents are x = signal x0 + noise eps. Schedulers differ in the scale of x: signal^2 + noise^2 = 1 where the
    variance is preserved (DDIM), signal = 1 where it explodes (Euler, noise = sigma). a and s below are both divided by
    sqrt(signal^2 + noise^2), which is what UNets are trained on.

    kind: "epsilon", "v_prediction" (v = a eps - s x0, arXiv 2202.00512) or "sample" (x0 itself)
    """

    kind: str
    signal: float
    noise: float

    def __post_init__(self) -> None:
        """Raises ValueError for an unknown kind."""
        if self.kind not in KINDS:
            raise ValueError(f'prediction "{self.kind}" is unknown. Allowed: ' + ", ".join(KINDS))

    def clean(self, prediction: Tensor, latents: Tensor) -> Tensor:
        """x0 of a prediction about noisy `latents`, both (batch, channels, height, width)."""
        size = math.hypot(self.signal, self.noise)
        a, s = self.signal / size, self.noise / size
        if self.kind == "epsilon":
            return (latents - self.noise * prediction) / self.signal
        return a * (latents / size) - s * prediction if self.kind == "v_prediction" else prediction

    def moved(self, prediction: Tensor, change: Tensor) -> Tensor:
        """The prediction whose x0 is that of `prediction` plus `change`; the noisy latents stay."""
        if self.kind == "epsilon":
            return prediction - (self.signal / self.noise) * change
        if self.kind == "v_prediction":  # v = (a x - x0) / s
            return prediction - (math.hypot(self.signal, self.noise) / self.noise) * change
        return prediction + change
