"""The runner's side of the worker: starts it, sends orders, receives answers, and says why it died."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import IO, ClassVar

from linfusion_cli.batch.messages import Answer, Order, answer_from_json, failure
from linfusion_cli.errors import OUT_OF_TIME
from linfusion_cli.json_files import JsonError, parse_json
from linfusion_cli.redaction import redacted
from linfusion_cli.system.cgroups import oom_kills
from linfusion_cli.system.process_limits import no_processes

ROOT = Path(__file__).resolve().parents[2]
START = "import sys; sys.path.insert(0, sys.argv[1]); from linfusion_cli.batch.worker import main; sys.exit(main())"
COMMAND = (sys.executable, "-P", "-c", START, str(ROOT))  # -P: a folder of images is no place to import from
LAUNCHED = "LINFUSION_LAUNCHED"
STDERR_LINES = 40  # lines of its stderr that are kept
KILLED = getattr(signal, "SIGKILL", 9)  # Windows has no such signal, and no process there ends with it
PAUSE_SECONDS = 5.0  # between two looks; a longer one means that this process itself was stopped
CAUSES = {
    "SIGKILL": "was killed (SIGKILL), most likely because memory ran out",
    "SIGBUS": "lost a file that it was reading (SIGBUS): a weight file was changed or cut while in use",
    "SIGSEGV": "crashed (SIGSEGV)",
    "SIGABRT": "gave up (SIGABRT)",
}

ENDED = {OUT_OF_TIME: "reached its limit on processor time (ulimit -t)"}


def launched_words(device: str, command: str) -> str:
    """What the worker of a launcher's first process needs to meet the others: the device, and what all were told."""
    return json.dumps([device, command])


class WorkerProcess:
    """A worker and the threads that read its pipes. It has a session of its own, so that Ctrl-C does not reach it."""

    command: ClassVar[Sequence[str]] = COMMAND

    def __init__(self, launched: str = "") -> None:
        """launched: for the first process of a launcher: what launched_words() made."""
        own = {LAUNCHED: launched, "LINFUSION_PARENT": str(os.getpid()), "DIFFUSERS_DISABLE_REMOTE_CODE": "1"}
        environment = {**os.environ, **own}
        pipe = subprocess.PIPE
        self._oom_kills = oom_kills()
        try:
            self.process = subprocess.Popen(
                list(self.command), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
            )
        except BlockingIOError as error:  # of fork
            raise no_processes() from error
        self._answers: queue.Queue[Answer] = queue.Queue()
        self._stderr_lines: deque[str] = deque(maxlen=STDERR_LINES)
        self._received_at = self._asked_at = time.monotonic()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._readers = [
            threading.Thread(target=self._read_answers, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_stderr_lines, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._readers:
            reader.start()

    def send(self, order: Order) -> None:
        """Orders an image. Raises nothing if the worker has died: `dead` is then true."""
        self._received_at = self._asked_at = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(order.as_json()).encode() + b"\n")
            self.process.stdin.flush()

    def receive(self, seconds: float) -> Answer | None:
        """The next answer, or None if none comes within `seconds`."""
        now = time.monotonic()
        if now - self._asked_at > PAUSE_SECONDS + seconds:  # this process was suspended, and so was the worker
            self._received_at = now
        self._asked_at = now
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        self._received_at = time.monotonic()
        return answer

    @property
    def silent_seconds(self) -> float:
        """Seconds since the last answer; a running worker sends one every two seconds."""
        return time.monotonic() - self._received_at

    @property
    def dead(self) -> bool:
        """Whether the process has ended and its last answer was received."""
        return self.process.poll() is not None and self._answers.empty() and not self._readers[0].is_alive()

    def stop(self) -> None:
        """Asks the worker to write a checkpoint and to end."""
        with contextlib.suppress(OSError):
            self.process.terminate()

    def end(self, patience_seconds: float = 10.0) -> None:
        """Waits for the worker to end, kills it after `patience_seconds`, and closes the pipes."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._readers:
            reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        """Kills the worker at once, also if it is suspended or hangs."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.end()

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it died by SIGKILL and the control group counted a kill for memory meanwhile."""
        return self.process.returncode == -KILLED and oom_kills() > self._oom_kills

    def cause(self) -> str:
        """Why the worker died, in words, with the last line of its standard error."""
        code = self.process.returncode
        if self.ran_out_of_memory:
            text = "was killed by the memory limit (SIGKILL)"
        elif code is not None and code < 0:
            name = _signal_name(-code)
            text = CAUSES.get(name, f"died by {name}")
        else:
            text = ENDED.get(code, f"ended with exit code {code}")
        last = next((word for word in reversed(self._stderr_lines) if word.strip()), "")
        return f"the process {text}" + (f". Its last words: {last}" if last else "")

    def _read_answers(self, stream: IO[bytes]) -> None:
        for line in stream:
            try:
                self._answers.put(answer_from_json(parse_json(line, "an answer")))
            except JsonError:
                continue  # a line that its death cut off
            except ValueError as error:
                self._answers.put(failure(error))

    def _read_stderr_lines(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._stderr_lines.append(redacted(line.decode("utf-8", "replace").rstrip()))


def _signal_name(number: int) -> str:
    """ "SIGTERM"; most real-time signals have no name."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
