"""A log file for people: every line is dated and safe to show; the file is rotated before it grows large."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated, Self, TextIO, cast

import typer

from linfusion_cli.cli.spelling import told
from linfusion_cli.cli.text import safe
from linfusion_cli.errors import OutputError
from linfusion_cli.system.signals import REASONS

if TYPE_CHECKING:
    import logging.handlers

LARGEST_BYTES = 5 << 20
KEPT_FILES = 5
LogFlag = Annotated[
    Path | None,
    typer.Option(
        "--log-file", metavar="FILE", help="Append what happens to this file; five older ones of 5 MB are kept."
    ),
]


class LogFile:
    """A log at `path`, in a with statement; FILE.1 to FILE.5 are the older ones. Entering raises OutputError."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._handler: logging.handlers.RotatingFileHandler | None = None
        self._libraries = ExitStack()

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        import logging.handlers

        try:
            if self._path.is_symlink():
                raise OSError(40, "it is a link")
            if self._path.is_fifo():
                raise OSError(22, "it is a pipe")
            self._handler = logging.handlers.RotatingFileHandler(
                self._path, maxBytes=LARGEST_BYTES, backupCount=KEPT_FILES, encoding="utf-8"
            )
            self._handler.handleError = self._give_up  # type: ignore[method-assign]
        except OSError as error:
            raise OutputError(f"--log-file {self._path}: can't be written ({error.strerror})") from error
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%S%z"))
        from linfusion_cli.system.library_output import listening

        self._libraries.enter_context(listening(self.add))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and not isinstance(error, GeneratorExit):
            self.add(_end(error))
        self._libraries.close()
        if self._handler is not None:
            with suppress(OSError):  # what a full disk did not take is told already
                self._handler.close()

    def add(self, text: str) -> None:
        """Writes a line."""
        if self._handler is not None:
            import logging

            self._handler.emit(logging.LogRecord("linfusion", logging.INFO, "", 0, safe(text), None, None))

    def _give_up(self, record: logging.LogRecord) -> None:
        """Says once on stderr that the log can't be written; the work goes on without it."""
        error = sys.exc_info()[1]
        reason = getattr(error, "strerror", None) or str(error)
        handler, self._handler = self._handler, None
        if handler is not None:
            with suppress(OSError, ValueError):
                handler.close()
        typer.echo(
            safe(f"note: --log-file {self._path}: can't be written any more ({reason}); nothing more is logged"),
            err=True,
        )

    @property
    def stream(self) -> TextIO | None:
        """A text stream whose lines go to the log; None without a log file."""
        return cast("TextIO", _Lines(self.add)) if self._handler is not None else None


def _end(error: BaseException) -> str:
    """The error message that ends a command, as its user reads it."""
    if isinstance(error, SystemExit):
        reason = REASONS.get(error.code, "stopped") if isinstance(error.code, int) else "stopped"
        return f"{reason} (exit code {error.code})"
    return "interrupted" if isinstance(error, KeyboardInterrupt) else f"ended by {type(error).__name__}: {told(error)}"


class _Lines(io.TextIOBase):
    """A text stream that passes each complete line to a function."""

    def __init__(self, give: Callable[[str], None]) -> None:
        self._give, self._rest = give, ""

    def write(self, text: str, /) -> int:
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._give(line)
        return len(text)
