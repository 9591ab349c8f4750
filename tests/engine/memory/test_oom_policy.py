"""Where memory runs out, work is attempted again with free buffers and lower bands; other errors are raised."""

import pytest
import torch

from linfusion_cli.engine.memory.oom_policy import OutOfMemoryPolicy

SHORT = (MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"))


class Policy:
    def __init__(self) -> None:
        self.notes: list[str] = []
        self.released = 0
        self.oom = OutOfMemoryPolicy(torch.device("cpu"), self.notes.append, self._release)

    def _release(self) -> None:
        self.released += 1


def failing(error: Exception) -> None:
    raise error


def test_work_that_fits_gives_its_result() -> None:
    policy = Policy()
    assert policy.oom.attempt(lambda: 7, last=True) == 7
    assert policy.released == 0


@pytest.mark.parametrize("error", SHORT)
def test_buffers_are_released_where_memory_ran_out(error: Exception) -> None:
    policy = Policy()
    assert policy.oom.attempt(lambda: failing(error), last=False) is None
    assert policy.released == 1


@pytest.mark.parametrize("error", SHORT)
def test_the_last_attempt_raises(error: Exception) -> None:
    with pytest.raises(type(error)):
        Policy().oom.attempt(lambda: failing(error), last=True)


def test_other_errors_are_raised_at_once() -> None:
    with pytest.raises(RuntimeError, match="shapes"):
        Policy().oom.attempt(lambda: failing(RuntimeError("shapes cannot be multiplied")), last=False)


def test_bands_are_halved_down_to_a_row_and_each_halving_is_noted() -> None:
    policy = Policy()
    heights = []
    for _ in range(4):
        heights.append(policy.oom.band_height(5))
        policy.oom.halve_bands()
    assert heights == [5, 2, 1, 1]
    assert [note.rpartition(" are ")[2] for note in policy.notes] == [f"1/{1 << n} as high" for n in (1, 2, 3, 4)]
