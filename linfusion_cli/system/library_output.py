"""Sends the libraries' logs, warnings and progress bars to the log file or the debug output, not between our lines."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LIBRARIES = ("accelerate", "diffusers", "huggingface_hub", "peft", "py.warnings", "torch", "transformers")
MOST_CHARACTERS = 400  # of one line; a report on a checkpoint has thousands
_LISTENERS: list[Callable[[str], None]] = []


class _Listened(logging.Handler):
    """Gives each record to those who listen at that time, as one short line."""

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(f"{record.name}: {record.getMessage()}".split())
        for listen in _LISTENERS:
            listen(text if len(text) <= MOST_CHARACTERS else f"{text[: MOST_CHARACTERS - 3]}...")


_HANDLER = _Listened()


def route_libraries() -> None:
    """Gives the output of the libraries that are imported to those who listen, instead of stderr.

    For a process that is ours alone, before the imports, and after them again: the libraries install handlers of
    their own then.
    """
    logging.captureWarnings(capture=True)
    for name in LIBRARIES:
        logger = logging.getLogger(name)
        logger.handlers[:] = [_HANDLER]
        logger.setLevel(logging.WARNING)
        logger.propagate = False
    for name in ("diffusers", "transformers"):
        if module := sys.modules.get(f"{name}.utils.logging"):
            module.disable_progress_bar()


@contextmanager
def listening(listen: Callable[[str], None]) -> Iterator[None]:
    """`listen` gets a line of text for everything that a routed library says inside."""
    _LISTENERS.append(listen)
    try:
        yield
    finally:
        _LISTENERS.remove(listen)
