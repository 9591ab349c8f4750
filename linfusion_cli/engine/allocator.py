"""Keeps the C library's allocator from holding on to memory that nobody uses."""

from __future__ import annotations

import ctypes
import sys
from functools import cache
from typing import Any


@cache
def _trim() -> Any:
    """glibc's malloc_trim, or nothing where there is none."""
    if not sys.platform.startswith("linux"):
        return None
    return getattr(ctypes.CDLL(None), "malloc_trim", None)


def give_back_memory() -> None:
    """Returns freed pages to the system: bands of changing sizes leave holes that would count as memory of the process.

    Asked for after every sweep; lower thresholds for every allocation keep memory as low, at twice the time (docs/log.md).
    """
    if (trim := _trim()) is not None:
        trim(0)
