"""The limits that the system sets to this process: those on its memory, and the errors that come of any of them.

psutil and the control groups do not know them: `ulimit -v` and `ulimit -d` (RLIMIT_AS, RLIMIT_DATA), as schedulers of
clusters set them for a job.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psutil

from linfusion_cli.errors import LinfusionError, OutOfMemoryError, option, ran_out_of_memory
from linfusion_cli.system.runtime_memory import mapped_bytes

FRAGMENTS_BYTES = 64 << 20  # of the heap, and what the libraries map later
STACK_BYTES = 8 << 20  # of a thread, in the address space; the system's default
NOT_MAPPED = ("failed to map segment", "cannot allocate memory", "cannot map zero-fill pages")  # words of ld.so
NO_THREAD = "can't start new thread"  # Python's words
MOST_CAUSES = 20  # of an error, one behind the other


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A limit on the memory of this process.

    name:       the command that shows it, "ulimit -v"
    bytes:      the limit
    room_bytes: what a plan's peak, which counts RAM, may be below it
    """

    name: str
    bytes: int
    room_bytes: int

    def __str__(self) -> str:
        return f"`{self.name}` of {self.bytes / 1e9:.1f} GB"


def memory_limit(threads: int) -> MemoryLimit | None:
    """The limit that leaves the least room; None without one. threads: that compute, each with a stack."""
    return min(_memory_limits(threads), key=lambda limit: limit.room_bytes, default=None)


def _memory_limits(threads: int) -> Iterator[MemoryLimit]:
    """Address space that no RAM is behind counts in RLIMIT_AS: the code of torch, and stacks that are hardly used."""
    if (resource := _resource()) is None:
        return
    beside = FRAGMENTS_BYTES + threads * STACK_BYTES
    kinds = (("ulimit -v", resource.RLIMIT_AS, mapped_bytes()), ("ulimit -d", resource.RLIMIT_DATA, 0))
    for name, kind, unheld in kinds:
        limit, _ = resource.getrlimit(kind)
        if limit != resource.RLIM_INFINITY and limit < psutil.virtual_memory().total + unheld:
            yield MemoryLimit(name, limit, max(0, limit - unheld - beside))


def _resource() -> Any:
    """The module that knows the limits; None where the system lacks it, or does not keep them all."""
    try:
        import resource
    except ImportError:
        return None
    return resource if sys.platform == "linux" else None


def shortage(error: BaseException) -> LinfusionError | None:
    """What the system refused to this process, if an error or one of its causes says so; None for all others."""
    for cause in _causes(error):
        code = cause.errno if isinstance(cause, OSError) else None
        if isinstance(cause, LinfusionError):
            return None
        if ran_out_of_memory(cause) or code == errno.ENOMEM or _not_mapped(cause):
            within = f" within {limit}" if (limit := memory_limit(0)) else ""
            return OutOfMemoryError(
                f"memory ran out{within}. Close other programs, or give less with ", option("max_memory")
            )
        if code in (errno.EMFILE, errno.ENFILE):
            return LinfusionError(f"no more files can be opened{_allowed()}. Raise the limit: ulimit -n 256")
        if NO_THREAD in str(cause):
            return no_processes()
    return None


def no_processes() -> LinfusionError:
    """The error where the system starts no thread or process."""
    return LinfusionError("the system starts no more threads or processes: see ulimit -u and ulimit -v")


@contextmanager
def refusals_named() -> Iterator[None]:
    """Raises the error of shortage() in place of one that came of it."""
    try:
        yield
    except Exception as error:
        if named := shortage(error):
            raise named from error
        raise


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error, what it was raised from, and so on: libraries wrap errors of their imports."""
    cause: BaseException | None = error
    for _ in range(MOST_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _not_mapped(cause: BaseException) -> bool:
    return isinstance(cause, ImportError | OSError) and any(words in str(cause).lower() for words in NOT_MAPPED)


def _allowed() -> str:
    """How many files this process may open, in brackets."""
    if (resource := _resource()) is None:
        return ""
    return f" (`ulimit -n` is {resource.getrlimit(resource.RLIMIT_NOFILE)[0]})"
