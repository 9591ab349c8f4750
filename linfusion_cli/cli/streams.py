"""Standard streams whose failure (closed, a full disk, a reader that has gone) ends no work.

main() runs every command inside standard_streams(). There sys.stderr drops what it can't write. sys.stdout raises
StandardOutputError, once for each attempt, so that a command whose result is text fails with a code of its own. What is
only an echo of a result that is on the disk goes through announce(), and what comes from a running render through a
display that asks for a stop (render_display.JsonDisplay), because no event may raise in the engine's threads.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import TextIO, cast

import typer

from linfusion_cli.errors import StandardOutputError


class DisplayStream:
    """A text stream over `inner` that never raises; after the first failure it drops everything.

    Characters that the encoding of `inner` lacks are written as escapes. `inner` is None where the process has no such
    stream.
    """

    def __init__(self, inner: TextIO | None) -> None:
        self._inner = inner
        self.reason = "it is closed" if inner is None else ""
        self.reader_gone = False

    @property
    def dead(self) -> bool:
        return bool(self.reason)

    @property
    def encoding(self) -> str:
        return getattr(self._inner, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:
        return "backslashreplace"

    def writable(self) -> bool:
        return True

    def isatty(self) -> bool:
        try:
            return self._inner is not None and not self.dead and self._inner.isatty()
        except (OSError, ValueError):
            return False

    def fileno(self) -> int:
        if self._inner is None:
            raise OSError("there is no such stream")
        return self._inner.fileno()

    def write(self, text: str, /) -> int:
        if not isinstance(text, str):
            raise TypeError(f"a text stream takes str, not {type(text).__name__}")
        self._attempt(lambda inner: _write_escaped(inner, text))
        return len(text)

    def flush(self) -> None:
        self._attempt(lambda inner: inner.flush())

    def detach_dead(self) -> None:
        """Points the descriptor of a dead stream to the null device, so that the last flush can't fail."""
        inner = self._inner
        if not self.dead or inner is None or all(inner is not own for own in (sys.__stdout__, sys.__stderr__)):
            return
        with contextlib.suppress(OSError, ValueError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, inner.fileno())
            os.close(null)

    def _attempt(self, work: Callable[[TextIO], object]) -> None:
        if self.dead or self._inner is None:
            return
        try:
            work(self._inner)
        except OSError as error:
            self.reason, self.reader_gone = error.strerror or str(error), isinstance(error, BrokenPipeError)
        except ValueError as error:  # Python's own word for a stream that was closed
            self.reason = str(error)


class ResultStream(DisplayStream):
    """Standard output: a failed write raises StandardOutputError, and so does each later one."""

    def write(self, text: str, /) -> int:
        super().write(text)
        self._require_alive()
        return len(text)

    def flush(self) -> None:
        super().flush()
        self._require_alive()

    def _require_alive(self) -> None:
        if self.dead:
            raise StandardOutputError(self.reason, reader_gone=self.reader_gone)


@contextlib.contextmanager
def standard_streams() -> Iterator[None]:
    """Replaces stdout and stderr by a ResultStream and a DisplayStream, and opens missing descriptors 0 to 2."""
    _open_missing()
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, encoding="utf-8", closefd=False)
    out, err = ResultStream(sys.stdout), DisplayStream(sys.stderr)
    sys.stdout, sys.stderr = cast("TextIO", out), cast("TextIO", err)
    try:
        yield
    finally:
        with contextlib.suppress(StandardOutputError):
            out.flush()
        err.flush()
        for stream in (out, err):
            stream.detach_dead()
        sys.stdin, sys.stdout, sys.stderr = before


def announce(line: str) -> None:
    """Prints the path of a finished result on stdout or, if that can't be written, on stderr."""
    told = bool(getattr(sys.stdout, "dead", False))
    try:
        typer.echo(line)
    except StandardOutputError as error:
        if not told:
            typer.echo(f"note: {error}", err=True)
        typer.echo(line, err=True)


def _write_escaped(inner: TextIO, text: str) -> None:
    try:
        inner.write(text)
    except UnicodeEncodeError:
        encoding = inner.encoding or "ascii"
        inner.write(text.encode(encoding, "backslashreplace").decode(encoding))


def _open_missing() -> None:
    """The next file opened would get a closed descriptor below 3: libraries would write into an image."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # Descriptors are given out from the lowest. The null device reads as empty and takes everything.
            os.open(os.devnull, os.O_RDWR)
