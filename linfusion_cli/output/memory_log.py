"""The file of `memory_log`: one JSON object a line for each event of a render but previews."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self, TextIO

from linfusion_cli.errors import Message, OutputError, option, quotes_prompt
from linfusion_cli.events import Event, Note, Notify, PreviewMade
from linfusion_cli.files import try_writing
from linfusion_cli.platform_files import NO_WAIT, PRIVATE


def check_log(path: Path) -> None:
    """Raises OutputError if the log can't be opened at `path`; changes nothing there."""
    folder = path.parent
    why = (
        "it is a pipe"
        if path.is_fifo()
        else "it is a folder"
        if path.is_dir()
        else f"there is no folder {str(folder)!r}"
        if not folder.is_dir()
        else ""
    )
    try:
        if not why and path.exists():
            os.close(os.open(path, os.O_WRONLY | os.O_APPEND | NO_WAIT | PRIVATE))
        elif not why:
            try_writing(folder)
    except OSError as error:
        why = error.strerror or str(error)
    if why:
        raise OutputError(f"{path}: can't be written ({why})", parameter="memory_log")


class MemoryLog:
    """Writes events to `path`, in a with statement; nothing if path is None.

    Entering raises OutputError if the file can't be opened, or if it is a pipe, which may have no reader. A log that
    can't be written later (a full disk) is told through `notify`, once, and the render goes on without it.
    quotes: False leaves out notes that quote the prompt.
    """

    def __init__(self, path: Path | None, notify: Notify, *, quotes: bool = True) -> None:
        self._path, self._notify, self._quotes = path, notify, quotes
        self._file: TextIO | None = None

    def __enter__(self) -> Self:
        if self._path is None:
            return self
        check_log(self._path)
        try:
            self._file = self._path.open("w", encoding="utf-8")
        except OSError as error:
            raise OutputError(f"{self._path}: can't be written ({error.strerror})", parameter="memory_log") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def add(self, event: Event, at_seconds: float) -> None:
        """Writes when it was, and the event, whose own `seconds` are how long a phase took."""
        if self._file is None or isinstance(event, PreviewMade):  # pixels are no matter of this log
            return
        if isinstance(event, Note) and not self._quotes and quotes_prompt(event.text):
            return
        line = json.dumps({"at_seconds": round(at_seconds, 3), "event": type(event).__name__, **asdict(event)})
        try:
            self._file.write(line + "\n")
            self._file.flush()
        except OSError as error:
            self._close()
            text = f" {self._path}: can't be written any more ({error.strerror}); the image is made without it"
            self._notify(Note(text=Message(option("memory_log"), text)))

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):  # what a full disk did not take
                file.close()
