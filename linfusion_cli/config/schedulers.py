"""The table of schedulers: a new one is a new row. The engine alone imports their classes, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """class_name: in diffusers; options: what its configuration gets beside the model's noise schedule.

    asks_twice: the timesteps at which it asks for two predictions: none, its second one, or all after its first
    """

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    asks_twice: Literal["never", "second", "after first"] = "never"


_UNCLIPPED = {"clip_sample": False}  # clipping is for pixels; latents go beyond 1
SCHEDULERS: dict[str, SchedulerRow] = {
    "ddim": SchedulerRow("DDIMScheduler", _UNCLIPPED),
    "ddpm": SchedulerRow("DDPMScheduler", _UNCLIPPED),
    "deis": SchedulerRow("DEISMultistepScheduler"),
    "dpmpp_2m": SchedulerRow("DPMSolverMultistepScheduler"),
    "dpmpp_2m_karras": SchedulerRow("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": SchedulerRow("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "euler": SchedulerRow("EulerDiscreteScheduler"),
    "euler_ancestral": SchedulerRow("EulerAncestralDiscreteScheduler"),
    "heun": SchedulerRow("HeunDiscreteScheduler", _UNCLIPPED, asks_twice="after first"),
    "lcm": SchedulerRow("LCMScheduler", _UNCLIPPED),
    "pndm": SchedulerRow("PNDMScheduler", {"skip_prk_steps": True}, asks_twice="second"),
    "unipc": SchedulerRow("UniPCMultistepScheduler"),
}
