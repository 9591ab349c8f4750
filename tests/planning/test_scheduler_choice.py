"""The engine's view of the table of schedulers: every name resolves to its row, any other is refused."""

import pickle

import pytest

from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.errors import UsageError
from linfusion_cli.planning.scheduler_choice import SchedulerChoice


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_a_choice_is_its_row(name: str) -> None:
    choice, row = SchedulerChoice.of(name), SCHEDULERS[name]
    assert (choice.name, choice.class_name, dict(choice.options)) == (name, row.class_name, dict(row.options))
    assert (name in choice.zero_snr_names) == row.zero_snr
    assert dict(choice.schedule) == {}
    assert hash(choice) == hash(pickle.loads(pickle.dumps(choice)))


def test_sigmas_and_timestep_spacing_stand_in_for_the_model_s() -> None:
    schedule = dict(SchedulerChoice.of("euler", "karras", "trailing").schedule)
    assert schedule == {"use_karras_sigmas": True, "timestep_spacing": "trailing"}


def test_an_unknown_scheduler_is_refused_with_the_list() -> None:
    with pytest.raises(UsageError, match=r'"eule" is unknown.*euler_ancestral'):
        SchedulerChoice.of("eule")
