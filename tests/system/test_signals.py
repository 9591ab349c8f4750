"""A request to stop is obeyed at once, or after the step whose work would be lost; the second one never waits."""

import signal

import pytest

from linfusion_cli.errors import INTERRUPTED, OUT_OF_TIME, TERMINATED
from linfusion_cli.system.signals import CODES, STOP, Stop, handle_signals


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


def test_a_signal_that_the_system_repeats_is_no_second_request() -> None:
    stop = Stop(patient=True)
    for _ in range(3):
        stop.ask(OUT_OF_TIME)
    assert stop.code == OUT_OF_TIME
    with pytest.raises(SystemExit):
        stop.ask(TERMINATED)


def test_without_a_request_nothing_stops() -> None:
    stop = Stop()
    stop.obey()
    stop.patient = True
    stop.ask(TERMINATED)
    stop.reset()
    stop.obey()


def test_a_request_of_any_thread_waits_to_be_obeyed() -> None:
    stop = Stop()
    stop.request(141)
    stop.request(143)
    with pytest.raises(SystemExit) as told:
        stop.obey()
    assert told.value.code == 141


@pytest.mark.parametrize("number", CODES)
def test_each_signal_asks_for_its_code_and_what_was_there_comes_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    restore = handle_signals()
    try:
        with pytest.raises((SystemExit, KeyboardInterrupt)) as told:
            signal.raise_signal(number)
    finally:
        restore()
    assert isinstance(told.value, KeyboardInterrupt) or told.value.code == 128 + number
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("number", CODES)
def test_a_signal_that_was_ignored_stays_ignored(number: signal.Signals) -> None:
    before = signal.signal(number, signal.SIG_IGN)
    try:
        restore = handle_signals()
        signal.raise_signal(number)
        restore()
        assert signal.getsignal(number) is signal.SIG_IGN
        assert not STOP.code
    finally:
        signal.signal(number, before)
