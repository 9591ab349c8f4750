"""The noise of DPM-Solver SDE from the generators of its predictions, where diffusers takes torchsde's Brownian tree.

A step asks for the increment of one Brownian path twice: to its midpoint, then to its end. The second is made from the
first and one new draw, so that both are of the same path, and nothing but latents is kept between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BrownianIncrements:
    """Called as diffusers' noise sampler is. first: the draw of the first half of a step, None within it."""

    draw: Tensor
    first: Tensor | None

    def __call__(self, sigma: Tensor, following: Tensor) -> Tensor:
        """The increment of a Brownian path between two sigmas, divided by its deviation."""
        if self.first is None:
            return self.draw
        middle = (sigma * following).sqrt()  # diffusers puts the midpoint there
        near, far = (sigma - middle).sqrt(), (middle - following).sqrt()
        increment: Tensor = (near * self.first + far * self.draw) / (sigma - following).sqrt()
        return increment


def step_with_noise(
    scheduler: Any, prediction: Tensor, timestep: Tensor, latents: Tensor, noise: Sequence[torch.Generator]
) -> Tensor:
    """One prediction's part of a step of DPMSolverSDEScheduler; latents (batch, channels, height, width).

    noise: the generator of each sample. Between two parts the scheduler holds the first draw as `first_draw`.
    """
    shape = latents.shape[1:]
    draw = torch.stack([torch.randn(shape, generator=one) for one in noise]).to(latents)
    first = None if scheduler.state_in_first_order else scheduler.first_draw
    scheduler.noise_sampler = BrownianIncrements(draw, first)
    following: Tensor = scheduler.step(prediction, timestep, latents, return_dict=False)[0]
    scheduler.noise_sampler = None  # a checkpoint holds tensors
    scheduler.first_draw = None if scheduler.state_in_first_order else draw
    return following
