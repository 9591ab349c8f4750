"""Inside the pause nothing is collected; afterwards collection runs again, and skips what was made."""

import gc

import pytest

from linfusion_cli.system.gc_pause import none_expected, paused


@pytest.fixture(autouse=True)
def unfrozen() -> object:
    yield
    gc.unfreeze()


def test_collection_is_off_inside_and_on_afterwards() -> None:
    with none_expected():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_inside_turns_it_on_again() -> None:
    with pytest.raises(ZeroDivisionError), none_expected():
        raise ZeroDivisionError
    assert gc.isenabled()


def test_a_plain_pause_freezes_nothing() -> None:
    before = gc.get_freeze_count()
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    assert gc.get_freeze_count() == before


def test_what_was_made_is_frozen() -> None:
    before = gc.get_freeze_count()
    with none_expected():
        made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    assert gc.get_freeze_count() - before >= len(made)
