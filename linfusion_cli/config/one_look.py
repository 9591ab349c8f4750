"""Looks at files once for the thousands of configurations that a list may have, where nothing says what changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
_FOUND: ContextVar[dict[Any, Any] | None] = ContextVar("found", default=None)


@contextmanager
def one_look() -> Iterator[None]:
    """Inside, each function with `looks_once` is called once for the same arguments: files are as the first call saw.

    Whoever works long on what is found resolves each image again before it is made, as the worker of a batch does.
    """
    token = _FOUND.set({})
    try:
        yield
    finally:
        _FOUND.reset(token)


def looks_once(function: Callable[P, R]) -> Callable[P, R]:
    """A function of hashable arguments that reads files. What it raises is not kept: the next call looks again."""

    @wraps(function)
    def look(*args: P.args, **kwargs: P.kwargs) -> R:
        found = _FOUND.get()
        if found is None:
            return function(*args, **kwargs)
        key = (function, args, tuple(kwargs.items()))
        if key not in found:
            found[key] = function(*args, **kwargs)
        return found[key]  # type: ignore[no-any-return]

    return look
