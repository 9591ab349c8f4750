"""A log file for people: every line dated and made safe to show, the file renamed and begun anew before it grows large."""

from __future__ import annotations

import logging
import logging.handlers
from pathlib import Path
from types import TracebackType
from typing import Self

from linfusion_cli.cli.text import safe
from linfusion_cli.errors import OutputError

LARGEST_BYTES = 5 << 20
KEPT_FILES = 5


class LogFile:
    """A log at `path`, in a with statement; FILE.1 to FILE.5 are the older ones. Entering raises OutputError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._handler: logging.handlers.RotatingFileHandler | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        try:
            if self._path.is_symlink():
                raise OSError(40, "it is a link")
            self._handler = logging.handlers.RotatingFileHandler(self._path, maxBytes=LARGEST_BYTES, backupCount=KEPT_FILES, encoding="utf-8")
        except OSError as error:
            raise OutputError(f"--log-file {self._path}: can't be written ({error.strerror})") from error
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self.add(f"ended by {type(error).__name__}: {error}")
        if self._handler is not None:
            self._handler.close()

    def add(self, text: str) -> None:
        """Writes a line."""
        if self._handler is not None:
            self._handler.emit(logging.LogRecord("linfusion", logging.INFO, "", 0, safe(text), None, None))
