"""The table of schedulers: a new one is a new row. The engine alone imports their classes, of diffusers, by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

TIMESTEP_SPACINGS = ("auto", "leading", "trailing", "linspace")
SIGMA_SCHEDULES = ("normal", "karras", "exponential", "beta", "sgm_uniform", "simple")
# What diffusers is told of a sigma schedule. "sgm_uniform" and "simple" of other tools are its trailing timesteps.
SIGMA_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "normal": {},
    "karras": {"use_karras_sigmas": True},  # arXiv 2206.00364
    "exponential": {"use_exponential_sigmas": True},
    "beta": {"use_beta_sigmas": True},  # arXiv 2407.12173
    "sgm_uniform": {"timestep_spacing": "trailing"},
    "simple": {"timestep_spacing": "trailing"},
}
MOST_STEPS = 500  # of any schedule
LCM_STEPS = 50  # that consistency models were distilled from
EXTRA = "schedulers"  # of pyproject.toml


@dataclass(frozen=True, slots=True)
class SchedulerRow:
    """One scheduler.

    class_name, options: in diffusers, and what its configuration gets beside the model's noise schedule
    a1111:      its name in A1111's list, or the nearest that such a name could be
    asks_twice: the timesteps at which it asks for two predictions: none, its second one, all after its first, or
                all after its first with the other one midway from the timestep before
    spacing:    where timestep_spacing means something to it: with every sigma schedule, with "normal" alone, or never
    sigmas:     whether it knows the karras, exponential and beta sigmas
    most_steps: how many it can make
    package:    that it needs beside diffusers, "" for none
    eta:        whether it can be told how much of the noise a step draws anew
    zero_snr:   whether it knows a noise schedule of zero terminal SNR (arXiv 2305.08891)
    """

    class_name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    a1111: str = ""
    asks_twice: Literal["never", "second", "after first", "midway"] = "never"
    spacing: Literal["always", "normal", "never"] = "always"
    sigmas: bool = False
    most_steps: int = MOST_STEPS
    package: str = ""
    eta: bool = False
    zero_snr: bool = False

    def sigma_schedules(self) -> Iterator[str]:
        """The names of SIGMA_SCHEDULES that it can do."""
        for name, options in SIGMA_OPTIONS.items():
            if name == "normal" or (self.spacing != "never" if "timestep_spacing" in options else self.sigmas):
                yield name


_UNCLIPPED = {"clip_sample": False}  # clipping is for pixels; latents go beyond 1
_SDE = {"algorithm_type": "sde-dpmsolver++"}
_DPM, _THIRD = "DPMSolverMultistepScheduler", {"solver_order": 3}
_SINGLE = {"lower_order_final": True}  # without it the last step would divide by 0
SCHEDULERS: dict[str, SchedulerRow] = {
    "ddim": SchedulerRow("DDIMScheduler", _UNCLIPPED, "DDIM", eta=True, zero_snr=True),
    "ddpm": SchedulerRow("DDPMScheduler", _UNCLIPPED, "DDPM", zero_snr=True),
    "deis": SchedulerRow("DEISMultistepScheduler", {}, "DEIS", spacing="normal", sigmas=True),
    "dpm2": SchedulerRow("KDPM2DiscreteScheduler", {}, "DPM2", asks_twice="midway", sigmas=True),
    "dpm2_ancestral": SchedulerRow("KDPM2AncestralDiscreteScheduler", {}, "DPM2 a", asks_twice="midway", sigmas=True),
    "dpmpp_2m": SchedulerRow(_DPM, {}, "DPM++ 2M", spacing="normal", sigmas=True, zero_snr=True),
    "dpmpp_2m_sde": SchedulerRow(_DPM, _SDE, "DPM++ 2M SDE", spacing="normal", sigmas=True, zero_snr=True),
    "dpmpp_2m_sde_heun": SchedulerRow(
        _DPM, {**_SDE, "solver_type": "heun"}, "DPM++ 2M SDE Heun", spacing="normal", sigmas=True, zero_snr=True
    ),
    "dpmpp_2s": SchedulerRow("DPMSolverSinglestepScheduler", _SINGLE, "DPM++ 2S", spacing="never", sigmas=True),
    "dpmpp_3m": SchedulerRow(_DPM, _THIRD, "DPM++ 3M", spacing="normal", sigmas=True, zero_snr=True),
    "dpmpp_3m_sde": SchedulerRow(
        _DPM, {**_SDE, **_THIRD}, "DPM++ 3M SDE", spacing="normal", sigmas=True, zero_snr=True
    ),
    "dpmpp_sde": SchedulerRow(
        "DPMSolverSDEScheduler", {}, "DPM++ SDE", asks_twice="midway", sigmas=True, package="torchsde"
    ),
    "euler": SchedulerRow("EulerDiscreteScheduler", {}, "Euler", sigmas=True, zero_snr=True),
    "euler_ancestral": SchedulerRow("EulerAncestralDiscreteScheduler", {}, "Euler a", zero_snr=True),
    "heun": SchedulerRow("HeunDiscreteScheduler", _UNCLIPPED, "Heun", asks_twice="after first", sigmas=True),
    "lcm": SchedulerRow("LCMScheduler", _UNCLIPPED, "LCM", spacing="never", most_steps=LCM_STEPS, zero_snr=True),
    "pndm": SchedulerRow("PNDMScheduler", {"skip_prk_steps": True}, "PLMS", asks_twice="second"),
    "tcd": SchedulerRow(
        "TCDScheduler", _UNCLIPPED, "TCD", spacing="never", most_steps=LCM_STEPS, eta=True, zero_snr=True
    ),
    "unipc": SchedulerRow("UniPCMultistepScheduler", {}, "UniPC", spacing="normal", sigmas=True, zero_snr=True),
}


def least_steps(strength: float) -> int:
    """The fewest steps of which a stage that runs this share of them runs one; more than any schedule's if none do."""
    return next((steps for steps in range(1, MOST_STEPS + 1) if steps * strength >= 1), MOST_STEPS + 1)


def least_strength(steps: int) -> str:
    """The least strength, in thousandths, with which a stage runs one of so many steps."""
    return f"{-(-1000 // steps) / 1000:g}"


def schedule_options(sigma_schedule: str, timestep_spacing: str) -> dict[str, Any]:
    """What diffusers' configuration gets for a sigma schedule and a timestep spacing; "auto" is the model's own."""
    spacing = {} if timestep_spacing == "auto" else {"timestep_spacing": timestep_spacing}
    return {**spacing, **SIGMA_OPTIONS[sigma_schedule]}


def unsupported(scheduler: str, sigma_schedule: str, timestep_spacing: str) -> tuple[str, str] | None:
    """The key of the setting that the scheduler can't do, and why, with the nearest; None if it does all."""
    row, trailing = SCHEDULERS[scheduler], "timestep_spacing" in SIGMA_OPTIONS[sigma_schedule]
    if sigma_schedule not in (able := tuple(row.sigma_schedules())):
        text = f"{scheduler} has no {sigma_schedule} sigmas. Allowed: {', '.join(able)}. Nearest: "
        return "sigma_schedule", text + ("sgm_uniform" if trailing and "sgm_uniform" in able else "normal")
    if timestep_spacing == "auto":
        return None
    if row.spacing == "never":
        return "timestep_spacing", f"{scheduler} has timesteps of its own. Nearest: auto"
    if trailing and timestep_spacing != "trailing":
        return "timestep_spacing", f"the sigma schedule {sigma_schedule} has trailing timesteps. Nearest: trailing"
    if row.spacing == "normal" and not trailing and sigma_schedule != "normal":
        return (
            "timestep_spacing",
            f"the {sigma_schedule} sigmas of {scheduler} have timesteps of their own. Nearest: auto",
        )
    return None


def missing_package(scheduler: str, sigma_schedule: str) -> str:
    """The package that a scheduler, or its sigma schedule, needs and that is not installed; "" if none is missing."""
    needed = [SCHEDULERS[scheduler].package, "scipy" if sigma_schedule == "beta" else ""]
    return next((name for name in needed if name and find_spec(name) is None), "")
