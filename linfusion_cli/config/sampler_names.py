"""The sampler and schedule names of A1111, ComfyUI, InvokeAI and diffusers, and the schedulers that they stand for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from linfusion_cli.config.schedulers import SCHEDULERS, SIGMA_SCHEDULES, unsupported
from linfusion_cli.errors import nearest_name


@dataclass(frozen=True, slots=True)
class Sampler:
    """A scheduler, and the sigma schedule and timestep spacing that its name says; "" for what it leaves open."""

    scheduler: str
    sigma_schedule: str = ""
    timestep_spacing: str = ""


# Names in lower case, with "pp" for "++" and "_" between their parts.
_SAMPLERS: Mapping[str, str] = {
    "ancestral": "euler_ancestral",
    "ddim_uniform": "ddim",
    "deis_multistep": "deis",
    "dpm2_a": "dpm2_ancestral",
    "dpm_2": "dpm2",
    "dpm_2_a": "dpm2_ancestral",
    "dpm_2_ancestral": "dpm2_ancestral",
    "dpm_multi": "dpmpp_2m",
    "dpm_single": "dpmpp_2s",
    "dpmpp": "dpmpp_2m",
    "dpmpp2m": "dpmpp_2m",
    "dpmsolverpp": "dpmpp_2m",
    "euler_a": "euler_ancestral",
    "kdpm_2": "dpm2",
    "kdpm_2_a": "dpm2_ancestral",
    "plms": "pndm",
    "uni_pc": "unipc",
    "uni_pc_bh2": "unipc",
    **{row.class_name.lower(): name for name, row in reversed(SCHEDULERS.items())},
}
# Of other tools alone: the nearest scheduler that is here.
_ABSENT: Mapping[str, str] = {
    "dpm_adaptive": "dpmpp_2m",
    "dpm_fast": "dpmpp_2m",
    "dpmpp_2s_a": "dpm2_ancestral",
    "dpmpp_2s_ancestral": "dpm2_ancestral",
    "er_sde": "dpmpp_3m_sde",
    "exp_heun_2_x0": "heun",
    "exp_heun_2_x0_sde": "dpmpp_2m_sde_heun",
    "gradient_estimation": "euler",
    "heunpp2": "heun",
    "ipndm": "pndm",
    "ipndm_v": "pndm",
    "lms": "euler",  # diffusers takes its order from the step's index: wrong where a stage starts late
    "lmsdiscretescheduler": "euler",
    "res_multistep": "dpmpp_2m",
    "res_multistep_ancestral": "dpm2_ancestral",
    "restart": "heun",
    "sa_solver": "dpmpp_3m_sde",
    "sa_solver_pece": "dpmpp_3m_sde",
    "sasolverscheduler": "dpmpp_3m_sde",
    "edmdpmsolvermultistepscheduler": "dpmpp_2m",
    "edmeulerscheduler": "euler",
    "seeds_2": "dpmpp_sde",
    "seeds_3": "dpmpp_sde",
}
# Schedules as (sigma schedule, timestep spacing).
_SCHEDULES: Mapping[str, tuple[str, str]] = {
    **{name: (name, "") for name in SIGMA_SCHEDULES},
    "automatic": ("normal", ""),
    "ddim": ("normal", "leading"),
    "ddim_uniform": ("normal", "leading"),
    "polyexponential": ("exponential", ""),  # with rho 1, as everywhere by default
    "uniform": ("normal", "linspace"),
}
_ABSENT_SCHEDULES: Mapping[str, str] = {
    "align_your_steps": "karras",
    "align_your_steps_11": "karras",
    "align_your_steps_32": "karras",
    "align_your_steps_gits": "karras",
    "ays": "karras",
    "gits": "karras",
    "kl_optimal": "karras",
    "laplace": "karras",
    "linear_quadratic": "sgm_uniform",
    "turbo": "sgm_uniform",
}
_VARIANT = re.compile(r"_(gpu|cpu)(?=_|$)")  # where ComfyUI draws the noise
A1111_SCHEDULES: Mapping[str, str] = {
    "karras": "Karras",
    "exponential": "Exponential",
    "beta": "Beta",
    "sgm_uniform": "SGM Uniform",
    "simple": "Simple",
}
_A1111_SPACINGS = {"trailing": "SGM Uniform", "leading": "DDIM"}


def sampler_named(text: str) -> Sampler | None:
    """The scheduler that a sampler name of any tool stands for ("DPM++ 2M Karras", k_euler_a); None if unknown."""
    name = _normal(text)
    if found := _scheduler(name):
        return Sampler(found, *(("", "leading") if name == "ddim_uniform" else ()))
    for schedule, (sigma_schedule, spacing) in _SCHEDULES.items():
        if found := _scheduler(name.removesuffix(f"_{schedule}")) if name.endswith(f"_{schedule}") else "":
            return Sampler(found, sigma_schedule, spacing)
    found = _scheduler(name.removesuffix("_k")) if name.endswith("_k") else ""
    return Sampler(found, "karras") if found else None


def schedule_named(text: str) -> tuple[str, str] | None:
    """The sigma schedule and the timestep spacing ("" if open) of a schedule name of any tool; None if unknown."""
    return _SCHEDULES.get(_normal(text))


def sampling_options(sampler: str, schedule: str) -> dict[str, str]:
    """The words of the options that two names of another tool come nearest to; {} for names that are not known.

    What the scheduler can't do is left out, so that the options are accepted together; sampling_left_out() names it.
    """
    near = absent_schedule(schedule)
    named, beside = sampler_named(sampler), schedule_named(schedule) or schedule_named(near) or ("", "")
    scheduler = named.scheduler if named else absent_sampler(sampler)
    sigma, spacing = (named.sigma_schedule, named.timestep_spacing) if named else ("", "")
    sigma, spacing = sigma or beside[0], spacing or beside[1]
    if scheduler and unsupported(scheduler, sigma or "normal", "auto"):
        sigma = ""
    if scheduler and unsupported(scheduler, sigma or "normal", spacing or "auto"):
        spacing = ""
    found = {"scheduler": scheduler, "sigma-schedule": "" if sigma == "normal" else sigma, "timestep-spacing": spacing}
    return {word: value for word, value in found.items() if value} if scheduler else {}


def sampling_left_out(sampler: str, schedule: str) -> list[str]:
    """What of two names of another tool the words of sampling_options() do not say, a text for each."""
    found, named = sampling_options(sampler, schedule), sampler_named(sampler)
    texts: list[str] = []
    if not found:
        texts += [f'sampler "{sampler}" is not known here'] if sampler else []
        return texts + ([f'schedule "{schedule}"'] if schedule else [])
    if named is None:
        texts.append(f'sampler "{sampler}" is not here; {found["scheduler"]} is the nearest')
    said = (found.get("sigma-schedule", "normal"), found.get("timestep-spacing", ""))
    if named and (named.sigma_schedule or said[0], named.timestep_spacing or said[1]) != said:
        texts.append(f'the schedule in "{sampler}": {found["scheduler"]} has none like it')
    if not schedule:
        return texts
    beside = schedule_named(schedule)
    if beside is None and (near := absent_schedule(schedule)) and near == said[0]:
        texts.append(f'schedule "{schedule}" is not here; {near} is the nearest')
    elif beside is None or (beside[0], beside[1] or said[1]) != said:
        texts.append(f'schedule "{schedule}": not with {found["scheduler"]}')
    return texts


def absent_sampler(text: str) -> str:
    """The nearest scheduler to a sampler that other tools have and linfusion lacks; "" if none has it."""
    name = _normal(text)
    for schedule in ("", *(f"_{schedule}" for schedule in (*_SCHEDULES, "k"))):
        stem = name.removesuffix(schedule)
        if stem in _ABSENT:
            return _ABSENT[stem]
        base = re.sub(r"_cfgpp$|_cfg_pp$", "", stem)
        if base != stem:
            return _scheduler(base) or _ABSENT.get(base, "")
    return ""


def absent_schedule(text: str) -> str:
    """The nearest sigma schedule to one that other tools have and linfusion lacks; "" if none has it."""
    return _ABSENT_SCHEDULES.get(_normal(text), "")


def nearest_sampler(text: str) -> str:
    """The scheduler whose name, in any tool, is most like a misspelled one; "" if none is."""
    names = {**{name: name for name in SCHEDULERS}, **_SAMPLERS}
    close = nearest_name(_normal(text), names)
    return names.get(close, "")


def a1111_names(scheduler: str, sigma_schedule: str, timestep_spacing: str) -> tuple[str, str]:
    """A1111's name of a scheduler, and its "Schedule type", "" where the sampler has but one."""
    row = SCHEDULERS[scheduler]
    if sigma_schedule != "normal":
        return row.a1111, A1111_SCHEDULES[sigma_schedule]
    return row.a1111, _A1111_SPACINGS.get(timestep_spacing, "Uniform") if row.sigmas else ""


def _normal(text: str) -> str:
    """Lower case, "pp" for "++", one "_" between parts, without the "k_" and "sample_" of k-diffusion."""
    name = re.sub(r"[^a-z0-9]+", "_", text.strip().lower().replace("++", "pp")).strip("_")
    return _VARIANT.sub("", re.sub(r"^(sample_|k_)+", "", name))


def _scheduler(name: str) -> str:
    """The scheduler of a normal name without its schedule; "" if there is none."""
    return name if name in SCHEDULERS else _SAMPLERS.get(name, "")
