"""The table of schedulers: every row names a class of diffusers, without importing it."""

import inspect
import sys
from subprocess import run

import pytest
from hypothesis import given
from hypothesis import strategies as st

from linfusion_cli.config.preset_schema import SamplingSettings
from linfusion_cli.config.schedulers import (
    MOST_STEPS,
    SCHEDULERS,
    SIGMA_SCHEDULES,
    TIMESTEP_SPACINGS,
    least_steps,
    least_strength,
    missing_package,
    unsupported,
)


@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of diffusers with numpy 2
@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_row_names_a_class_and_its_options(name: str) -> None:
    import diffusers

    row = SCHEDULERS[name]
    if package := missing_package(name, "normal"):
        pytest.skip(f"{package} is not installed")
    made = getattr(diffusers, row.class_name)(**row.options)
    assert {option: made.config[option] for option in row.options} == row.options


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_row_says_whether_its_class_knows_zero_terminal_snr(name: str) -> None:
    import diffusers

    parameters = inspect.signature(getattr(diffusers, SCHEDULERS[name].class_name)).parameters
    assert SCHEDULERS[name].zero_snr == ("rescale_betas_zero_snr" in parameters)


def test_presets_allow_the_names_of_the_table() -> None:
    allowed = SamplingSettings.model_json_schema()["properties"]["scheduler"]["enum"]
    assert sorted(allowed) == sorted(SCHEDULERS)


def test_the_table_needs_no_torch() -> None:
    code = "import sys, linfusion_cli.config.schedulers; sys.exit(bool({'torch', 'diffusers'} & set(sys.modules)))"
    assert run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize("sigmas", SIGMA_SCHEDULES)
@pytest.mark.parametrize("spacing", TIMESTEP_SPACINGS)
def test_the_nearest_combination_is_accepted(name: str, sigmas: str, spacing: str) -> None:
    settings = {"sigma_schedule": sigmas, "timestep_spacing": spacing}
    for _ in range(2):  # two settings may be wrong
        if found := unsupported(name, settings["sigma_schedule"], settings["timestep_spacing"]):
            settings[found[0]] = found[1].rpartition("Nearest: ")[2]
    assert unsupported(name, settings["sigma_schedule"], settings["timestep_spacing"]) is None


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("linfusion_cli.config.schedulers.find_spec", lambda _: None)
    assert missing_package("dpmpp_sde", "normal") == "torchsde"
    assert missing_package("euler", "beta") == "scipy"
    assert missing_package("euler", "karras") == ""


@given(st.floats(0.002, 1), st.integers(1, 500))
def test_the_least_steps_and_the_least_strength_run_a_step(strength: float, steps: int) -> None:
    least = least_steps(strength)
    assert least * strength >= 1
    assert (least - 1) * strength < 1
    assert float(least_strength(steps)) * steps >= 1
    assert least_steps(0) > MOST_STEPS
