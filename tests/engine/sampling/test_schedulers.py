"""Every row of the table runs behind one signature; only schedulers that can noise an image are accepted."""

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from linfusion_cli.config.schedulers import SCHEDULERS, SchedulerRow
from linfusion_cli.engine.sampling.noise import generator
from linfusion_cli.engine.sampling.progressive_upscale import Clock, base
from linfusion_cli.engine.sampling.schedulers import Scheduler, make_scheduler, require_add_noise
from linfusion_cli.errors import UsageError
from linfusion_cli.planning.upscale_schedule import times

CONFIG = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "v_prediction",
    "steps_offset": 1,
}
DRAWING = ("ddpm", "dpmpp_2m_sde", "euler_ancestral", "lcm")


CPU = torch.device("cpu")


def test_a_new_scheduler_is_a_new_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SCHEDULERS, "sa_solver", SchedulerRow("SASolverScheduler"))
    scheduler = Scheduler.start(make_scheduler("sa_solver", CONFIG), 10, 0.5, CPU)
    latents = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    for index, _ in enumerate(scheduler.timesteps):
        latents = scheduler.step(0.1 * latents, index, latents, [generator(7, 0, index)])
    assert len(scheduler.timesteps) == len(times("sa_solver", 10, 0.5)) == 5
    assert latents.isfinite().all()


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_the_noise_of_a_step_is_its_generators(name: str) -> None:
    """The same generators give the same latents; others give other latents where the scheduler draws, else the same."""

    def stepped(seed: int) -> torch.Tensor:
        scheduler = Scheduler.start(make_scheduler(name, CONFIG), 10, 1.0, CPU)
        return scheduler.step(
            torch.ones(2, 4, 4, 4), 0, torch.ones(2, 4, 4, 4), [generator(seed, 0, i) for i in (1, 2)]
        )

    assert torch.equal(stepped(1), stepped(1))
    assert torch.equal(stepped(1), stepped(2)) == (name not in DRAWING)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_levels_are_signal_and_noise_at_each_timestep(name: str) -> None:
    scheduler = Scheduler.start(make_scheduler(name, CONFIG), 8, 0.5, CPU)
    assert len(scheduler.levels) == len(scheduler.timesteps)
    amounts = [amount / signal for signal, amount in scheduler.levels]
    assert amounts == sorted(amounts, reverse=True)
    assert scheduler.train_timesteps == 1000


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_the_models_noise_schedule_is_kept(name: str) -> None:
    config = make_scheduler(name, CONFIG).config
    assert (config.beta_end, config.beta_schedule, config.prediction_type) == (0.012, "scaled_linear", "v_prediction")
    assert not config.get("clip_sample", False)  # clipping is for pixels, latents go beyond 1


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize(("steps", "strength"), [(20, 1.0), (20, 0.4), (20, 0.2), (20, 0.05), (2, 0.5), (1, 1.0)])
def test_the_plan_knows_what_a_part_of_the_steps_asks_for(name: str, steps: int, strength: float) -> None:
    clock = Clock.start(make_scheduler(name, CONFIG), steps, strength, torch.device("cpu"))
    assert len(clock.timesteps) == len(times(name, steps, strength))


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
@pytest.mark.parametrize(("steps", "strength"), [(20, 1.0), (20, 0.4), (20, 0.2), (50, 0.1), (2, 0.5)])
def test_a_perfect_denoiser_finds_the_image_from_wherever_it_starts(name: str, steps: int, strength: float) -> None:
    """The noise in an image of zeros is the image over its noise level; at the end at most a thirtieth is left."""
    scheduler = make_scheduler(name, {**CONFIG, "prediction_type": "epsilon"})
    clock = Clock.start(scheduler, steps, strength, torch.device("cpu"))
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


def test_an_unknown_scheduler_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r'"eule" is unknown.*euler_ancestral'):
        make_scheduler("eule", CONFIG)
