"""The table of schedulers, and what the upscale needs of one."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch
from torch import Tensor

from linfusion_cli.errors import UsageError

SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "deis": ("DEISMultistepScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_ancestral": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "lcm": ("LCMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "unipc": ("UniPCMultistepScheduler", {}),
}


def make_scheduler(name: str, config: dict[str, Any]) -> Any:
    """A fresh scheduler of that name with the model's noise schedule.

    Raises UsageError if the name is unknown or the scheduler can't add noise, which every upscale stage needs.
    """
    if name not in SCHEDULERS:
        raise UsageError(f'scheduler "{name}" is unknown. Allowed: ' + ", ".join(sorted(SCHEDULERS)))
    class_name, options = SCHEDULERS[name]
    kind = getattr(diffusers, class_name)
    if (
        config.get("rescale_betas_zero_snr")
        and "rescale_betas_zero_snr" not in inspect.signature(kind.__init__).parameters
    ):
        known = [
            other
            for other, (theirs, _) in SCHEDULERS.items()
            if "rescale_betas_zero_snr" in inspect.signature(getattr(diffusers, theirs)).parameters
        ]
        raise UsageError(
            f'scheduler "{name}" knows no schedule of zero terminal SNR, which this model was trained with. Allowed: {", ".join(known)}'
        )
    scheduler = kind.from_config(config, **options)
    require_add_noise(scheduler, name)
    return scheduler


def last_timesteps(scheduler: Any, skipped: int) -> Tensor:
    """The list of a scheduler that is set, without its first entries: of PNDM's, which asks for its second timestep twice wherever it begins."""
    timesteps: Tensor = scheduler.timesteps
    if not hasattr(scheduler, "plms_timesteps"):
        return timesteps[skipped:]
    once = torch.cat([timesteps[:1], timesteps[2:]])[skipped:]
    return torch.cat([once[:2], once[1:]])


def require_add_noise(scheduler: Any, name: str) -> None:
    """Raises UsageError for a scheduler that can't noise an image to a timestep."""
    if not hasattr(scheduler, "add_noise"):
        raise UsageError(
            f'scheduler "{name}" can\'t add noise to an image, which the upscale needs. Try --scheduler ddim or euler'
        )
