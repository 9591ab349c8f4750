"""Names of samplers in presets and flags: what they say of the sigmas, and what contradicts."""

from pathlib import Path
from typing import Any

import pytest

from linfusion_cli.config.job_hash import job_hash, what_decides_pixels
from linfusion_cli.config.preset_schema import SamplingSettings
from linfusion_cli.config.presets import load_preset
from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.errors import UsageError


def sampling(tmp_path: Path, toml: str = "", **flags: Any) -> SamplingSettings:
    path = tmp_path / "mine.toml"
    path.write_text('extends = "landscape"\n[sampling]\n' + toml)
    return resolve(Request(prompt="x", preset=str(path), **flags)).settings.sampling


def three(settings: SamplingSettings) -> tuple[str, str, str]:
    return settings.scheduler, settings.sigma_schedule, settings.timestep_spacing


@pytest.mark.parametrize(
    ("toml", "flags", "found"),
    [
        ('scheduler = "DPM++ 2M Karras"', {}, ("dpmpp_2m", "karras", "auto")),
        ('scheduler = "DPM++ 2M Karras"', {"scheduler": "ddim"}, ("ddim", "normal", "auto")),
        ('scheduler = "DPM++ 2M Karras"', {"sigma_schedule": "Exponential"}, ("dpmpp_2m", "exponential", "auto")),
        ('sigma_schedule = "Uniform"', {"scheduler": "euler"}, ("euler", "normal", "linspace")),
        ("", {"scheduler": "euler", "sigma_schedule": "ddim_uniform"}, ("euler", "normal", "leading")),
        ("", {"scheduler": "Euler SGM Uniform"}, ("euler", "sgm_uniform", "auto")),
        ("", {"scheduler": "k_euler", "sigma_schedule": "Karras"}, ("euler", "karras", "auto")),
        ("", {"scheduler": "Euler Karras", "sigma_schedule": "karras"}, ("euler", "karras", "auto")),
        ('scheduler = "lcm"', {}, ("lcm", "normal", "auto")),
    ],
)
def test_what_names_say(tmp_path: Path, toml: str, flags: dict[str, str], found: tuple[str, str, str]) -> None:
    assert three(sampling(tmp_path, toml, **flags)) == found


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"scheduler": "DPM adaptive"}, 'scheduler "DPM adaptive": linfusion does not have it. Nearest: dpmpp_2m'),
        ({"scheduler": "Euler b"}, 'Did you mean "euler_ancestral"?'),
        ({"scheduler": "Euler Karras", "sigma_schedule": "exponential"}, "it says sampling.sigma_schedule = karras"),
        ({"scheduler": "Euler a Karras"}, "euler_ancestral has no karras sigmas. Nearest: euler_ancestral"),
        ({"sigma_schedule": "kl_optimal"}, "does not have it. Nearest: karras"),
        ({"sigma_schedule": "karas"}, 'Did you mean "karras"?'),
        ({"scheduler": "lcm", "timestep_spacing": "trailing"}, "timesteps of its own. Nearest: auto"),
        ({"scheduler": "ddim", "sigma_schedule": "beta"}, "ddim has no beta sigmas.*Nearest: normal"),
        ({"scheduler": "lcm", "sigma_schedule": "sgm_uniform"}, "lcm has no sgm_uniform sigmas"),
        ({"scheduler": "euler", "sigma_schedule": "simple", "timestep_spacing": "leading"}, "Nearest: trailing"),
        ({"scheduler": "dpmpp_2m_karras", "timestep_spacing": "leading"}, "have timesteps of their own. Nearest: auto"),
        ({"timestep_spacing": "trailling"}, 'Did you mean "trailing"?'),
        ({"scheduler": "euler", "eta": 0.5}, "eta 0.5: euler has no eta, which is for ddim, tcd. Nearest: -1"),
        ({"scheduler": "ddim", "eta": -0.5}, "eta -0.5: write a number from 0 to 1, or -1. Nearest: 0"),
        ({"scheduler": "ddim", "eta": 2.0}, "write a number from -1 to 1. Nearest: 1"),
    ],
)
def test_what_is_refused(tmp_path: Path, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        sampling(tmp_path, **flags)
    pattern = message.partition(".*")
    assert pattern[0] in str(caught.value)
    assert pattern[2] in str(caught.value)


def test_jobs_of_older_versions_keep_their_key() -> None:
    def sampled(**flags: Any) -> Any:
        return what_decides_pixels(resolve(Request(prompt="x", seed=1, **flags)))["sampling"]

    assert sampled().keys().isdisjoint({"sigma_schedule", "timestep_spacing", "eta"})
    assert sampled(scheduler="DPM++ 2M Karras")["scheduler"] == "dpmpp_2m_karras"
    assert sampled(sigma_schedule="karras")["sigma_schedule"] == "karras"
    assert sampled(scheduler="ddim", eta=0.0)["eta"] == 0


def test_guidance_below_one_is_none_and_the_same_job() -> None:
    jobs = [resolve(Request(prompt="x", seed=1, guidance=scale)) for scale in (0.0, 0.5, 1.0)]
    assert {job.settings.sampling.guidance for job in jobs} == {1.0}
    assert len({job_hash(job) for job in jobs}) == 1


def test_a_source_is_told_of_what_a_name_says(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[sampling]\nscheduler = "DPM++ 2M Karras"\n')
    assert load_preset(str(path)).sources["sampling.sigma_schedule"] == f"preset {path}"
