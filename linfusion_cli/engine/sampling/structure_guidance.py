"""Structure guidance (ScaleDiff, arXiv 2510.25818): the low band of x0 is pulled to that of the enlarged image."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from linfusion_cli.engine.sampling.clean_prediction import CleanPrediction
from linfusion_cli.engine.sampling.frequency_bands import low_band


@dataclass(frozen=True, slots=True)
class StructureGuidance:
    """Keeps the layout and the colours of the stage before, and leaves the detail to the model.

    reference:   latents of the enlarged image, (1, channels, height, width); fixed within a stage
    weight:      0 to 1, how much of the paper's gamma is applied
    scale:       of the low-pass filter, above 0 to 1
    first_noise: share of noise, 1 - alpha_bar, at the first timestep of the stage
    """

    reference: Tensor
    weight: float
    scale: float
    first_noise: float

    def __call__(self, prediction: Tensor, latents: Tensor, at: CleanPrediction) -> Tensor:
        """The prediction about noisy `latents` after x0' = x0 + gamma_t (LP(reference) - LP(x0)); shapes stay."""
        # gamma_t = (1 - alpha_bar_t) / (1 - alpha_bar_start): 1 at the first step, near 0 at the last
        gamma = self.weight * noise_share(at.signal, at.noise) / self.first_noise
        change = gamma * low_band(self.reference - at.clean(prediction, latents), self.scale)
        return at.moved(prediction, change)


def noise_share(signal: float, noise: float) -> float:
    """1 - alpha_bar: the part of the variance that is noise, 0 to 1, for any scale of noisy latents."""
    return noise**2 / (signal**2 + noise**2)
