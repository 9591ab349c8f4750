"""The log of memory: lines of JSON, and a full disk that costs nothing but the log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from linfusion_cli.errors import OutputError
from linfusion_cli.events import Event, MemorySampled, Note, PreviewMade
from linfusion_cli.output.memory_log import MemoryLog, check_log

SAMPLE = MemorySampled(resident_bytes=7, device_bytes=0)


def test_each_event_is_a_line(tmp_path: Path) -> None:
    with MemoryLog(tmp_path / "log", lambda event: None) as log:
        log.add(SAMPLE, 1.23456)
    line = json.loads((tmp_path / "log").read_text())
    assert line == {"at_seconds": 1.235, "event": "MemorySampled", "resident_bytes": 7, "device_bytes": 0}


def test_a_full_disk_is_told_once() -> None:
    told: list[Event] = []
    with MemoryLog(Path("/dev/full"), told.append) as log:
        for _ in range(3):
            log.add(SAMPLE, 0.0)
    assert [event.text for event in told if isinstance(event, Note)] == [
        "memory_log /dev/full: can't be written any more (No space left on device); the image is made without it"
    ]


def test_none_writes_nothing() -> None:
    with MemoryLog(None, lambda event: None) as log:
        log.add(SAMPLE, 0.0)


def test_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match="it is a pipe"), MemoryLog(tmp_path / "pipe", lambda event: None):
        pass


def test_previews_are_left_out(tmp_path: Path) -> None:
    with MemoryLog(tmp_path / "log", lambda event: None) as log:
        log.add(PreviewMade(stage=0, done=1, total=1, width=1, height=1, rgb=b"abc"), 0.0)
    assert (tmp_path / "log").read_text() == ""


def test_what_would_stop_the_log_is_known_before(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name, why in (("pipe", "a pipe"), ("", "a folder"), ("no/log", "there is no folder")):
        with pytest.raises(OutputError, match=why):
            check_log(tmp_path / name)
    check_log(tmp_path / "log")
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]
