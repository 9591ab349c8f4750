"""The engine's view of the table of schedulers: every name resolves to its row, any other is refused."""

import pickle

import pytest

from linfusion_cli.config.schedulers import SCHEDULERS
from linfusion_cli.errors import Option, UsageError
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


@pytest.mark.parametrize("name", sorted(SCHEDULERS))
def test_what_is_offered_for_a_model_of_zero_terminal_snr_knows_it(name: str) -> None:
    choice = SchedulerChoice.of(name)
    if name in choice.zero_snr_names:
        choice.require_zero_snr()
        return
    with pytest.raises(UsageError, match="Nearest") as caught:
        choice.require_zero_snr()
    *_, offered = (part.value for part in caught.value.message.parts if isinstance(part, Option))
    SchedulerChoice.of(str(offered)).require_zero_snr()
