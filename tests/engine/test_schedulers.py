"""The table of schedulers is the presets' list, and only those that can noise a picture are let in."""

import pytest
from diffusers import FlowMatchEulerDiscreteScheduler

from linfusion_cli import preset
from linfusion_cli.engine.schedulers import SCHEDULERS, make_scheduler, require_add_noise
from linfusion_cli.errors import UsageError

CONFIG = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "steps_offset": 1}


def test_the_engine_knows_what_presets_allow() -> None:
    assert sorted(SCHEDULERS) == sorted(preset.SCHEDULERS)


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_the_models_noise_schedule_is_kept(name: str) -> None:
    config = make_scheduler(name, CONFIG).config
    assert (config.beta_end, config.beta_schedule, config.prediction_type) == (0.012, "scaled_linear", "v_prediction")
    assert not config.get("clip_sample", False)  # clipping is for pixels, latents go beyond 1


def test_a_scheduler_that_can_not_add_noise_is_refused() -> None:
    with pytest.raises(UsageError, match=r"can't add noise.*--scheduler ddim"):
        require_add_noise(FlowMatchEulerDiscreteScheduler(), "flow_match")


def test_an_unknown_scheduler_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r'"eule" is unknown.*euler_ancestral'):
        make_scheduler("eule", CONFIG)
