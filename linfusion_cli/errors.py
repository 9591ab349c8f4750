"""Every error that a user can meet, and the exit code of each family.

    LinfusionError                1   anything else that went wrong
    ├── UsageError                2   the command, a preset or a prompt is not what it may be
    ├── OutOfMemoryError          4   no plan fits into the memory that is there or allowed
    ├── WeightsError             66   weights are missing, damaged or of another model
    ├── OutputError              74   the image can't be written (place, permission, space)
    └── BusyError                75   somebody else works on the same thing; try later

Interrupts end with 130 (Ctrl-C) and 143 (SIGTERM). Messages say the value given, what is allowed, and the nearest
valid one or the next command to type.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

INTERRUPTED = 130
TERMINATED = 143
NO_MEMORY = (
    "can't allocate memory",
    "not enough memory",
    "out of memory",
    "could not create a primitive",
)  # torch on CPUs and cards, oneDNN


class LinfusionError(Exception):
    """The root: caught by the command line alone, and shown without a traceback."""

    exit_code = 1


class UsageError(LinfusionError):
    """A value that the user gave can't be used."""

    exit_code = 2


class OutOfMemoryError(LinfusionError):
    """No plan fits into the memory that is there or allowed, or memory ran out."""

    exit_code = 4


class WeightsError(LinfusionError):
    """Weights are missing, damaged, or do not fit the model."""

    exit_code = 66


class OutputError(LinfusionError):
    """The image can't be written where it should be."""

    exit_code = 74


class DiskFullError(OutputError):
    """There is no room left for the image, nor for any that comes after it."""


class BusyError(LinfusionError):
    """Another process holds what this one needs."""

    exit_code = 75


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory ran out."""
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error).lower() for text in NO_MEMORY)
    )


def nearest(given: str, allowed: Iterable[str]) -> str:
    """A closing sentence for an unknown name: the closest allowed one, or all of them."""
    names = sorted(allowed)
    close = nearest_name(given, names)
    return f'Did you mean "{close}"?' if close else "Allowed: " + ", ".join(names)


def nearest_name(given: str, allowed: Iterable[str]) -> str:
    """The allowed name that was most likely meant; "" if none is close."""
    return next(iter(difflib.get_close_matches(given, sorted(allowed), n=1, cutoff=0.5)), "")
