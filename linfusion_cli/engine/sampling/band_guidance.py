"""Classifier-free guidance with a scale for each band of spatial frequencies, or one for both."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from linfusion_cli.engine.sampling.frequency_bands import low_band
from linfusion_cli.planning.render_plan import SamplerSettings
from linfusion_cli.planning.upscale_schedule import Stage


@dataclass(frozen=True, slots=True)
class Guidance:
    """How two predictions become one.

    e = e_u + w_low LP(e_c - e_u) + w_high (e_c - e_u - LP(e_c - e_u)): FreCaS (arXiv 2410.18410) and, with
    w_low = 1, the rule of HiWave (arXiv 2506.20452). Equal scales are plain guidance (arXiv 2207.12598).

    low, high: from 1, which is the prediction with the prompt alone
    scale:     of the low-pass filter, above 0 to 1
    """

    low: float
    high: float
    scale: float = 0.5

    @staticmethod
    def of(sampler: SamplerSettings, stage: Stage) -> Guidance:
        """That of a stage: in later ones each band has its scale; coarse is what the stage before could show."""
        if not stage.index:
            return Guidance(sampler.guidance_scale, sampler.guidance_scale)
        return Guidance(sampler.guidance_low, sampler.guidance_high, stage.before.width / stage.size.width)

    @property
    def acts(self) -> bool:
        """Whether the prediction without the prompt is needed at all."""
        return self.low != 1 or self.high != 1

    def __call__(self, without: Tensor, with_text: Tensor) -> Tensor:
        """Joins the predictions without and with the prompt, both (batch, channels, height, width)."""
        if self.low == self.high:
            return without + self.low * (with_text - without)
        difference = with_text - without
        return without + self.high * difference + (self.low - self.high) * low_band(difference, self.scale)
