"""A request to stop is obeyed at once, or after the step whose work would be lost; the second one never waits."""

import pytest

from linfusion_cli.errors import INTERRUPTED, TERMINATED
from linfusion_cli.system.signals import Stop


@pytest.mark.parametrize(("code", "error"), [(INTERRUPTED, KeyboardInterrupt), (TERMINATED, SystemExit)])
def test_a_request_stops_at_once(code: int, error: type[BaseException]) -> None:
    stop = Stop()
    with pytest.raises(error):
        stop.ask(code)
    assert stop.code == 0, "it has been obeyed"


def test_a_patient_step_ends_first() -> None:
    stop = Stop(patient=True)
    stop.ask(TERMINATED)
    with pytest.raises(SystemExit) as told:
        stop.obey()
    assert told.value.code == TERMINATED
    assert (stop.code, stop.patient) == (0, False)


def test_the_second_request_does_not_wait() -> None:
    stop = Stop(patient=True)
    stop.ask(TERMINATED)
    with pytest.raises(KeyboardInterrupt):
        stop.ask(INTERRUPTED)


def test_without_a_request_nothing_stops() -> None:
    stop = Stop()
    stop.obey()
    stop.patient = True
    stop.ask(TERMINATED)
    stop.reset()
    stop.obey()
