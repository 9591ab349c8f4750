"""diffusers' schedulers behind one signature, set to the steps that a stage runs."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from torch import Tensor

from linfusion_cli.engine.compat_diffusers import quiet_arrays
from linfusion_cli.engine.sampling.brownian import step_with_noise
from linfusion_cli.errors import UsageError, option
from linfusion_cli.planning.scheduler_choice import ZERO_SNR, SchedulerChoice
from linfusion_cli.planning.upscale_schedule import steps_run
from linfusion_cli.weights.config_rules import noise_schedule


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A diffusers scheduler that is set to a number of steps. What differs between its classes is resolved here, once.

    inner:           the diffusers scheduler, with its memory of earlier steps
    timesteps:       (predictions,) of the predictions that it asks for, in RAM
    levels:          signal and noise of an image noised to each of them
    train_timesteps: T, the number of timesteps that the model was trained with
    prediction:      what the UNet predicts: "epsilon", "v_prediction" or "sample"
    initial_sigma:   the deviation of the pure noise that it starts from
    takes_generator: whether a step may draw noise
    eta:             0 to 1, the part of its noise that a step draws anew; None: as much as the class does by itself
    """

    inner: Any
    timesteps: Tensor
    levels: tuple[tuple[float, float], ...]
    train_timesteps: int
    prediction: str
    initial_sigma: float
    takes_generator: bool
    eta: float | None = None

    @staticmethod
    def start(inner: Any, steps: int, strength: float, eta: float = -1.0) -> Scheduler:
        """Sets a diffusers scheduler to `steps` steps. strength: the last part that is run, 0 to 1, rounded up.

        eta: 0 to 1, for classes whose step takes it; below 0 as they do by themselves
        Timesteps and sigmas stay in RAM: steps ask for their numbers, and each would wait for a device to tell it.
        """
        with quiet_arrays():
            inner.set_timesteps(steps, device="cpu")
        skipped = (steps - steps_run(steps, strength)) * inner.order
        timesteps = last_timesteps(inner, skipped)
        levels = tuple(_level(inner, timestep, skipped + index) for index, timestep in enumerate(timesteps))
        if hasattr(inner, "set_begin_index"):
            inner.set_begin_index(skipped or None)
        return Scheduler(
            inner=inner,
            timesteps=timesteps,
            levels=levels,
            train_timesteps=inner.config.num_train_timesteps,
            prediction=inner.config.prediction_type,
            initial_sigma=inner.init_noise_sigma,
            takes_generator="generator" in inspect.signature(inner.step).parameters,
            eta=eta if eta >= 0 else None,
        )

    def scale(self, latents: Tensor, timestep: Tensor) -> Tensor:
        """The latents as the model reads them at a timestep; the shape stays."""
        scaled: Tensor = self.inner.scale_model_input(latents, timestep)
        return scaled

    def step(self, prediction: Tensor, index: int, latents: Tensor, noise: Sequence[torch.Generator]) -> Tensor:
        """The latents (batch, channels, height, width) after the step of prediction `index`.

        noise: the generator of each sample of the batch, for schedulers that draw
        """
        if hasattr(self.inner, "noise_sampler"):
            return step_with_noise(self.inner, prediction, self.timesteps[index], latents, noise).contiguous()
        options: dict[str, Any] = {"generator": list(noise)} if self.takes_generator else {}
        if self.eta is not None:
            options["eta"] = self.eta
        following: Tensor = self.inner.step(prediction, self.timesteps[index], latents, return_dict=False, **options)[0]
        return following.contiguous()  # the layout that a checkpoint restores: sums depend on it


def make_scheduler(choice: SchedulerChoice, config: Mapping[str, Any]) -> Any:
    """A new diffusers scheduler with the model's noise schedule.

    Raises UsageError if its class would ignore the model's zero terminal SNR, or if it can't add noise to an image,
    which every upscale stage needs.
    """
    if config.get(ZERO_SNR):
        choice.require_zero_snr()
    own = noise_schedule(config) | dict(choice.schedule)
    with quiet_arrays():
        scheduler = getattr(diffusers, choice.class_name).from_config(own, **dict(choice.options))
    require_add_noise(scheduler, choice.name)
    return scheduler


def last_timesteps(scheduler: Any, skipped: int) -> Tensor:
    """The timesteps of a scheduler that is set, without its first `skipped`.

    PNDM asks for its second timestep twice, wherever it begins.
    """
    timesteps: Tensor = scheduler.timesteps
    if not hasattr(scheduler, "plms_timesteps"):
        return timesteps[skipped:]
    once = torch.cat([timesteps[:1], timesteps[2:]])[skipped:]
    return torch.cat([once[:2], once[1:]])


def require_add_noise(scheduler: Any, name: str) -> None:
    """Raises UsageError for a scheduler that can't noise an image to a timestep."""
    if not hasattr(scheduler, "add_noise"):
        raise UsageError(
            f'scheduler "{name}" can\'t add noise to an image, which the upscale needs. Try ',
            option("scheduler", "ddim"),
            " or euler",
        )


def _level(scheduler: Any, timestep: Tensor, index: int) -> tuple[float, float]:
    """Signal and noise at prediction `index` of a scheduler that is set, whose timestep is given."""
    if index % 2 and (midway := _midway(scheduler, index)) is not None:
        return 1.0, midway
    if hasattr(scheduler, "set_begin_index"):  # the level of this index: rounded timesteps may be there twice
        scheduler.set_begin_index(index)
    one, zero, when = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), timestep.reshape(1)
    return float(scheduler.add_noise(one, zero, when)), float(scheduler.add_noise(zero, one, when))


def _midway(scheduler: Any, index: int) -> float | None:
    """The sigma of a prediction between two timesteps, which add_noise would take for its neighbour's."""
    if hasattr(scheduler, "sigmas_interpol"):
        return float(scheduler.sigmas_interpol[index])
    if hasattr(scheduler, "mid_point_sigma"):
        return float((scheduler.sigmas[index - 1] * scheduler.sigmas[index]).sqrt())
    return None
