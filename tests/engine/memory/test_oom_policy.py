"""Where memory runs out, work is attempted again with free buffers and lower bands; other errors are raised."""

import pytest
import torch

from linfusion_cli.engine.memory.oom_policy import OutOfMemoryPolicy

SHORT = (
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`"),
    RuntimeError("GET was unable to find an engine to execute this computation"),
    RuntimeError("FIND was unable to find an engine to execute this computation"),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported"),
    RuntimeError("HIP error: hipErrorOutOfMemory"),
    RuntimeError("miopenStatusAllocFailed"),
    RuntimeError(
        "MPS backend out of memory (MPS allocated: 8.00 GB, other allocations: 1.00 GB, max allowed: 9.07 GB)"
    ),
    RuntimeError("Invalid buffer size: 16.00 GB"),
    RuntimeError("could not create a primitive descriptor"),
)


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
    for text in ("shapes cannot be multiplied", "CUDA error: an illegal memory access was encountered"):
        with pytest.raises(RuntimeError, match=text):
            Policy().oom.attempt(lambda text=text: failing(RuntimeError(text)), last=False)


def test_bands_are_halved_down_to_a_row_and_each_halving_is_noted() -> None:
    policy = Policy()
    heights = []
    for _ in range(4):
        heights.append(policy.oom.band_height(5))
        policy.oom.halve_bands()
    assert heights == [5, 2, 1, 1]
    assert [note.rpartition(" are ")[2] for note in policy.notes] == [f"1/{1 << n} as high" for n in (1, 2, 3, 4)]
