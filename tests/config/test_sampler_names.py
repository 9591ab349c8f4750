"""Names of other tools' samplers and schedules stand for schedulers of the table, or for the nearest one."""

import itertools

import pytest

from linfusion_cli.config.sampler_names import (
    _ABSENT,
    _ABSENT_SCHEDULES,
    _SAMPLERS,
    _SCHEDULES,
    Sampler,
    a1111_names,
    absent_sampler,
    absent_schedule,
    nearest_sampler,
    sampler_named,
    sampling_left_out,
    sampling_options,
    schedule_named,
)
from linfusion_cli.config.schedulers import SCHEDULERS, SIGMA_SCHEDULES, unsupported


@pytest.mark.parametrize(
    ("name", "scheduler", "sigmas", "spacing"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m", "karras", ""),
        ("dpmpp_2m_karras", "dpmpp_2m", "karras", ""),
        ("DPM++ 2M SDE Heun Exponential", "dpmpp_2m_sde_heun", "exponential", ""),
        ("DPM++ 3M SDE", "dpmpp_3m_sde", "", ""),
        ("DPM++ SDE Karras", "dpmpp_sde", "karras", ""),
        ("Euler a", "euler_ancestral", "", ""),
        ("k_euler_a", "euler_ancestral", "", ""),
        ("sample_euler_ancestral", "euler_ancestral", "", ""),
        ("DPM2 a Karras", "dpm2_ancestral", "karras", ""),
        ("dpm_2_ancestral", "dpm2_ancestral", "", ""),
        ("kdpm_2_a_k", "dpm2_ancestral", "karras", ""),
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde", "", ""),
        ("dpmpp_2m_sde_karras_gpu", "dpmpp_2m_sde", "karras", ""),
        ("dpmpp_2m_sde_gpu_karras", "dpmpp_2m_sde", "karras", ""),
        ("ddim_uniform", "ddim", "", "leading"),
        ("euler_ddim_uniform", "euler", "normal", "leading"),
        ("Euler SGM Uniform", "euler", "sgm_uniform", ""),
        ("dpmpp_2m_k", "dpmpp_2m", "karras", ""),
        ("PLMS", "pndm", "", ""),
        ("uni_pc_bh2", "unipc", "", ""),
        ("DPMSolverMultistepScheduler", "dpmpp_2m", "", ""),
        ("  heun ", "heun", "", ""),
    ],
)
def test_a_name_of_another_tool(name: str, scheduler: str, sigmas: str, spacing: str) -> None:
    assert sampler_named(name) == Sampler(scheduler, sigmas, spacing)


@pytest.mark.parametrize("name", ["", "karras", "eulr", "DPM adaptive", "euler_cfg_pp", "_k", "++"])
def test_what_is_no_sampler_here(name: str) -> None:
    assert sampler_named(name) is None


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("DPM adaptive", "dpmpp_2m"),
        ("DPM fast Karras", "dpmpp_2m"),
        ("DPM++ 2S a Karras", "dpm2_ancestral"),
        ("Euler CFG++", "euler"),
        ("euler_ancestral_cfg_pp", "euler_ancestral"),
        ("dpmpp_2s_ancestral_cfg_pp", "dpm2_ancestral"),
        ("sa_solver", "dpmpp_3m_sde"),
        ("lms", "euler"),
        ("LMS Karras", "euler"),
        ("k_lms", "euler"),
        ("LMSDiscreteScheduler", "euler"),
        ("nothing", ""),
    ],
)
def test_a_sampler_that_is_not_here_has_a_nearest(name: str, nearest: str) -> None:
    assert absent_sampler(name) == nearest


def test_every_nearest_name_is_accepted() -> None:
    assert {*_SAMPLERS.values(), *_ABSENT.values()} <= SCHEDULERS.keys()
    assert {*(sigmas for sigmas, _ in _SCHEDULES.values()), *_ABSENT_SCHEDULES.values()} <= set(SIGMA_SCHEDULES)
    assert all(sampler_named(name) is None for name in _ABSENT)


def test_schedules() -> None:
    assert schedule_named("SGM Uniform") == ("sgm_uniform", "")
    assert schedule_named("Uniform") == ("normal", "linspace")
    assert schedule_named("kl optimal") is None
    assert (absent_schedule("KL Optimal"), absent_schedule("Align Your Steps"), absent_schedule("x")) == (
        "karras",
        "karras",
        "",
    )


def test_a_misspelled_name_finds_the_alias() -> None:
    assert nearest_sampler("Eular a") == "euler_ancestral"
    assert nearest_sampler("qqqq") == ""


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize("sigmas", SIGMA_SCHEDULES)
def test_what_a1111_is_told_is_read_as_the_same(name: str, sigmas: str) -> None:
    if unsupported(name, sigmas, "auto"):
        return
    sampler, schedule = a1111_names(name, sigmas, "auto")
    assert sampler_named(sampler) == Sampler(name)
    assert sigmas == "normal" or schedule_named(schedule) == (sigmas, "")


def test_the_options_of_a_record_of_another_tool_are_accepted_together() -> None:
    assert sampling_options("Euler a", "Karras") == {"scheduler": "euler_ancestral"}
    assert sampling_options("dpmpp_2m_sde_gpu", "karras") == {"scheduler": "dpmpp_2m_sde", "sigma-schedule": "karras"}
    assert sampling_options("LCM", "Karras") == {"scheduler": "lcm"}
    assert sampling_options("nonsense", "karras") == {}
    for sampler in (*SCHEDULERS, *_SAMPLERS, *_ABSENT):
        for schedule in (*_SCHEDULES, *_ABSENT_SCHEDULES, "nonsense", ""):
            found = sampling_options(sampler, schedule)
            sigmas, spacing = found.get("sigma-schedule", "normal"), found.get("timestep-spacing", "auto")
            assert unsupported(found["scheduler"], sigmas, spacing) is None


def test_what_a_scheduler_can_not_do_is_told() -> None:
    assert sampling_left_out("Euler a", "Karras") == ['schedule "Karras": not with euler_ancestral']
    assert sampling_left_out("DPM++ 2M", "Karras") == []
    assert sampling_left_out("DPM++ 2M Karras", "") == []
    assert sampling_left_out("nonsense", "karras") == ['sampler "nonsense" is not known here', 'schedule "karras"']
    assert sampling_left_out("Restart", "") == ['sampler "Restart" is not here; heun is the nearest']
    nearest = 'schedule "Align Your Steps" is not here; karras is the nearest'
    assert sampling_left_out("Euler", "Align Your Steps") == [nearest]
    assert sampling_left_out("Euler", "my own") == ['schedule "my own": not with euler']
    assert sampling_left_out("", "") == []


def test_no_schedule_of_any_tool_is_lost_in_silence() -> None:
    samplers = [*_SAMPLERS, *_ABSENT, "DPM++ 2M Karras", "Euler a Karras", "unknown"]
    for sampler, schedule in itertools.product(samplers, [*_SCHEDULES, *_ABSENT_SCHEDULES, "unknown"]):
        options, texts = sampling_options(sampler, schedule), sampling_left_out(sampler, schedule)
        named, beside = sampler_named(sampler), schedule_named(schedule)
        assert any(sampler in text for text in texts) or (named is not None and named.scheduler == options["scheduler"])
        said = (options.get("sigma-schedule", "normal"), options.get("timestep-spacing", ""))
        exact = beside is not None and beside[0] == said[0] and beside[1] in ("", said[1])
        assert exact or any(schedule in text for text in texts), (sampler, schedule)
