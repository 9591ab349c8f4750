"""Every row of the table runs behind one signature; only schedulers that can noise an image are accepted."""

import inspect
from itertools import product
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from on_device import OnDevice

from linfusion_cli.config.schedulers import (
    SCHEDULERS,
    SIGMA_SCHEDULES,
    TIMESTEP_SPACINGS,
    SchedulerRow,
    missing_package,
    schedule_options,
    unsupported,
)
from linfusion_cli.engine.sampling.denoiser import beside
from linfusion_cli.engine.sampling.noise import generator
from linfusion_cli.engine.sampling.progressive_upscale import Clock, base
from linfusion_cli.engine.sampling.schedulers import Scheduler, make_scheduler, require_add_noise
from linfusion_cli.errors import UsageError, WeightsError
from linfusion_cli.planning.scheduler_choice import SchedulerChoice
from linfusion_cli.planning.upscale_schedule import times
from linfusion_cli.weights.config_rules import SAMPLER_CHOICES, check_config

CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}
DRAWING = {name for name in SCHEDULERS if "sde" in name} | {"ddpm", "dpm2_ancestral", "euler_ancestral", "lcm", "tcd"}
HERE = sorted(name for name in SCHEDULERS if not missing_package(name, "normal"))


def made(name: str, sigmas: str = "normal", spacing: str = "auto") -> Any:
    """The scheduler of diffusers for CONFIG."""
    return make_scheduler(SchedulerChoice.of(name, sigmas, spacing), CONFIG)


@pytest.mark.parametrize("name", HERE)
def test_no_step_asks_a_device_for_a_number(name: str) -> None:
    """The meta device, which has none, refuses to tell one: a card would be waited for."""
    scheduler = Scheduler.start(made(name), 6, 0.7)
    latents = torch.empty(1, 4, 8, 8, device="meta")
    for index, timestep in enumerate(scheduler.timesteps):
        prediction = scheduler.scale(latents, timestep) * 1
        latents = scheduler.step(prediction, index, latents, [generator(1, 0, index)])
    assert (latents.shape, latents.device.type) == ((1, 4, 8, 8), "meta")


@pytest.mark.parametrize("sigmas", ["normal", "karras"])
@pytest.mark.parametrize("name", HERE)
def test_no_step_computes_in_float64_on_a_device(name: str, sigmas: str) -> None:
    """Which Apple's GPUs lack. Some schedulers have their timesteps in it, in RAM."""
    if unsupported(name, sigmas, "auto"):
        return
    scheduler, latents = Scheduler.start(made(name, sigmas), 6, 0.7), torch.empty(1, 4, 8, 8, device="meta")
    with OnDevice() as seen:
        for index, timestep in enumerate(scheduler.timesteps):
            prediction = scheduler.scale(latents, timestep) * beside(timestep, latents)
            latents = scheduler.step(prediction, index, latents, [generator(1, 0, index)])
    assert torch.float64 not in seen.dtypes


def test_a_new_scheduler_is_a_new_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULERS, "sa_solver", SchedulerRow("SASolverScheduler"))
    scheduler = Scheduler.start(make_scheduler(SchedulerChoice.of("sa_solver"), CONFIG), 10, 0.5)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for index, _ in enumerate(scheduler.timesteps):
        latents = scheduler.step(0.1 * latents, index, latents, [generator(7, 0, index)])
    assert len(scheduler.timesteps) == len(times("sa_solver", 10, 0.5)) == 5
    assert latents.isfinite().all()


@pytest.mark.parametrize("name", [name for name, row in SCHEDULERS.items() if row.eta])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0, -1.0])
def test_eta_is_that_of_diffusers(name: str, eta: float) -> None:
    """A step of diffusers' own scheduler with the same eta and the same noise; -1 is what it has by itself."""
    ours, theirs = Scheduler.start(made(name), 6, 1.0, eta), made(name)
    theirs.set_timesteps(6)
    x = y = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for index, timestep in enumerate(theirs.timesteps):
        x = ours.step(0.3 * x, index, x, [generator(7, 0, index)])
        more = {} if eta < 0 else {"eta": eta}
        y = theirs.step(0.3 * y, timestep, y, generator=generator(7, 0, index), **more).prev_sample
    assert torch.equal(x, y)


@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_table_says_whose_step_takes_eta(name: str) -> None:
    step = inspect.signature(getattr(diffusers, SCHEDULERS[name].class_name).step)
    assert SCHEDULERS[name].eta == ("eta" in step.parameters)


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_the_noise_of_a_step_is_its_generators(name: str) -> None:
    """The same generators give the same latents; others give other latents where the scheduler draws, else the same."""

    def stepped(seed: int) -> torch.Tensor:
        scheduler, latents = (
            Scheduler.start(made(name), 10, 1.0),
            torch.ones(2, 4, 4, 4),
        )
        for index in (0, 1):  # some draw at their second prediction alone
            scheduler.scale(latents, scheduler.timesteps[index])
            latents = scheduler.step(
                torch.ones(2, 4, 4, 4), index, latents, [generator(seed, index, i) for i in (1, 2)]
            )
        return latents

    assert torch.equal(stepped(1), stepped(1))
    assert torch.equal(stepped(1), stepped(2)) == (name not in DRAWING)


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_levels_are_signal_and_noise_at_each_timestep(name: str) -> None:
    scheduler = Scheduler.start(made(name), 8, 0.5)
    assert len(scheduler.levels) == len(scheduler.timesteps)
    amounts = [amount / signal for signal, amount in scheduler.levels]
    if name == "dpm2_ancestral":  # its midpoints are on the way to below the next timestep
        amounts = amounts[::2]
    assert amounts == sorted(amounts, reverse=True)
    assert scheduler.train_timesteps == 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_the_models_noise_schedule_is_kept(name: str) -> None:
    config = made(name).config
    assert (config.beta_end, config.beta_schedule, config.prediction_type) == (0.012, "scaled_linear", "v_prediction")
    assert not config.get("clip_sample", False)  # clipping is for pixels, latents go beyond 1


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(("steps", "strength"), [(20, 1.0), (20, 0.4), (20, 0.2), (20, 0.05), (2, 0.5), (1, 1.0)])
def test_the_plan_knows_what_a_part_of_the_steps_asks_for(name: str, steps: int, strength: float) -> None:
    clock = Clock.start(made(name), steps, strength)
    assert len(clock.timesteps) == len(times(name, steps, strength))


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
@pytest.mark.parametrize(("steps", "strength"), [(20, 1.0), (20, 0.4), (20, 0.2), (50, 0.1), (2, 0.5)])
def test_a_perfect_denoiser_finds_the_image_from_wherever_it_starts(name: str, steps: int, strength: float) -> None:
    """The noise in an image of zeros is the image over its noise level; at the end at most a thirtieth is left."""
    scheduler = make_scheduler(SchedulerChoice.of(name), {**CONFIG, "prediction_type": "epsilon"})
    clock = Clock.start(scheduler, steps, strength)
    amounts = np.sqrt(1 - scheduler.alphas_cumprod.numpy())
    noise = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    given = torch.zeros_like(noise) if strength < 1 else None
    left = base(
        lambda x, t, _: x / float(np.interp(float(t), range(1000), amounts)),
        clock,
        clock.first(noise, given),
        (0,),
        lambda *_: None,
    )
    assert left.abs().mean() < 0.04


def test_a_scheduler_that_can_not_add_noise_is_refused() -> None:
    with pytest.raises(UsageError, match=r'add noise to an image.*scheduler="ddim"'):
        require_add_noise(FlowMatchEulerDiscreteScheduler(), "flow_match")


def test_a_scheduler_without_zero_terminal_snr_is_refused_for_a_model_that_has_it() -> None:
    with pytest.raises(UsageError, match=r'"deis" knows no schedule of zero terminal SNR.*Allowed: ddim'):
        make_scheduler(SchedulerChoice.of("deis"), {**CONFIG, "rescale_betas_zero_snr": True})
    assert make_scheduler(SchedulerChoice.of("ddim"), {**CONFIG, "rescale_betas_zero_snr": True})


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array_wrap__:DeprecationWarning")  # of diffusers with numpy 2
@pytest.mark.parametrize(
    ("name", "sigmas", "spacing"),
    [
        case
        for case in product(HERE, SIGMA_SCHEDULES, TIMESTEP_SPACINGS)
        if not unsupported(*case) and not missing_package(*case[:2])
    ],
)
def test_every_combination_is_that_of_plain_diffusers(name: str, sigmas: str, spacing: str) -> None:
    """Timesteps, sigmas, and a run with the same predictions and noise."""
    config = {**CONFIG, "timestep_spacing": "leading"}
    whole = {**config, **schedule_options(sigmas, spacing), **SCHEDULERS[name].options}
    plain = getattr(diffusers, SCHEDULERS[name].class_name).from_config(whole)
    plain.set_timesteps(7)
    ours = Scheduler.start(make_scheduler(SchedulerChoice.of(name, sigmas, spacing), config), 7, 1.0)
    assert torch.equal(ours.timesteps, plain.timesteps)
    if hasattr(plain, "sigmas"):
        assert torch.equal(ours.inner.sigmas, plain.sigmas)
    start = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert (run_of(ours, start) - plain_run(plain, start)).abs().max() < 1e-5


@pytest.mark.slow
def test_spacings_and_sigmas_change_the_timesteps() -> None:
    """Where the table says that a setting means something, it does; where it says the contrary, it does not."""
    for name in HERE:
        row = SCHEDULERS[name]
        for sigmas in ("normal", "karras"):
            if sigmas not in row.sigma_schedules():
                continue
            found = {
                tuple(Scheduler.start(made(name, sigmas, spacing), 6, 1.0).timesteps.tolist())
                for spacing in ("leading", "trailing", "linspace")
            }
            means = row.spacing == "always" or (row.spacing == "normal" and sigmas == "normal")
            assert (len(found) > 1) == means, (name, sigmas)


def run_of(scheduler: Scheduler, start: torch.Tensor) -> torch.Tensor:
    latents = start * scheduler.initial_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        prediction = torch.sin(3 * scheduler.scale(latents, timestep))
        latents = scheduler.step(prediction, index, latents, [generator(5, 0, index + 1)])
    return latents


def plain_run(scheduler: Any, start: torch.Tensor) -> torch.Tensor:
    """The loop of diffusers' pipelines; the noise of a Brownian path is summed up from its two halves."""
    latents = start * scheduler.init_noise_sigma
    takes = {"generator"} & set(inspect.signature(scheduler.step).parameters)
    for index, timestep in enumerate(scheduler.timesteps):
        prediction = torch.sin(3 * scheduler.scale_model_input(latents, timestep))
        if hasattr(scheduler, "noise_sampler"):
            scheduler.noise_sampler = path_of(index)
        options = {"generator": [generator(5, 0, index + 1)]} if takes else {}
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **options)[0]
    return latents


def path_of(index: int) -> Any:
    """Increments of a Brownian path over sigma, divided by their deviation, as diffusers' tree gives them."""

    def draw(of: int) -> torch.Tensor:
        return torch.randn(4, 8, 8, generator=generator(5, 0, of + 1))[None]

    def sampler(sigma: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
        if index % 2 == 0:
            return draw(index)
        middle = torch.exp((sigma.log() + following.log()) / 2)
        path = draw(index - 1) * (sigma - middle) ** 0.5 + draw(index) * (middle - following) ** 0.5
        return path / (sigma - following) ** 0.5

    return sampler


MODEL_S_OWN = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing")
MODEL_S_OWN += ("steps_offset", "set_alpha_to_one", "rescale_betas_zero_snr", "original_inference_steps")
MODEL_S_OWN += ("timestep_scaling",)
ONE_CHOICE = ("trained_betas",)  # the default is the only value that is not refused
OTHER_VALUES = {
    "num_train_timesteps": 500,
    "beta_start": 0.002,
    "beta_end": 0.03,
    "beta_schedule": "linear",
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "steps_offset": 3,
    "original_inference_steps": 40,
    "timestep_scaling": 5.0,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_every_setting_of_a_config_is_used_ignored_on_purpose_or_refused(name: str) -> None:
    kind = getattr(diffusers, SCHEDULERS[name].class_name)
    defaults = {key: value.default for key, value in inspect.signature(kind.__init__).parameters.items()}
    del defaults["self"]
    plain = make_scheduler(SchedulerChoice.of(name), CONFIG).config
    for key, default in defaults.items():
        assert (key in MODEL_S_OWN) + (key in ONE_CHOICE) + (key in SAMPLER_CHOICES) == 1, key
        if key in MODEL_S_OWN:
            value = OTHER_VALUES.get(key, not default)
            made = make_scheduler(SchedulerChoice.of(name), {**CONFIG, key: value})
            assert made.config[key] == value, key
            check_config("scheduler", {**CONFIG, key: value}, "x")
        elif key in ONE_CHOICE:
            with pytest.raises(WeightsError, match=key):
                check_config("scheduler", {**CONFIG, key: [0.5]}, "x")
        else:
            value = not default if isinstance(default, bool) else "other"
            assert make_scheduler(SchedulerChoice.of(name), {**CONFIG, key: value}).config[key] == plain[key], key


@pytest.mark.slow
@pytest.mark.parametrize("name", HERE)
def test_the_model_s_preferred_sampler_does_not_leak_into_another(name: str) -> None:
    """A config that an SDE solver was saved with makes no other solver stochastic, nor Karras."""
    saved = diffusers.DPMSolverMultistepScheduler(
        **CONFIG,
        algorithm_type="sde-dpmsolver++",
        solver_order=3,
        use_karras_sigmas=True,
        final_sigmas_type="sigma_min",
    )
    config = {key: value for key, value in saved.config.items() if not key.startswith("_")}
    clean = {**CONFIG, "timestep_spacing": saved.config.timestep_spacing}
    inherited, own = make_scheduler(SchedulerChoice.of(name), config), make_scheduler(SchedulerChoice.of(name), clean)
    given = {key: value for key, value in own.config.items() if not key.startswith("_")}
    assert {key: value for key, value in inherited.config.items() if key in given} == given
