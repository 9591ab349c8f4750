"""The parent's side of the child: starting it, hearing it, noticing that it hangs, and saying what it died of."""

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
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, ClassVar

from linfusion_cli.json_files import parse_json
from linfusion_cli.redaction import redacted
from linfusion_cli.system.cgroups import oom_kills

ROOT = Path(__file__).resolve().parents[2]
START = "import sys; sys.path.insert(0, sys.argv[1]); from linfusion_cli.batch.worker import main; sys.exit(main())"
COMMAND = (sys.executable, "-P", "-c", START, str(ROOT))  # -P: a folder of images is no place to import from
LAST_WORDS = 40  # lines of its stderr that are kept
PAUSE_SECONDS = 5.0  # between two looks; a longer one means that this process itself was stopped
CAUSES = {
    signal.SIGKILL: "was killed (SIGKILL), most likely because memory ran out",
    signal.SIGBUS: "lost a file that it was reading (SIGBUS): a weight file was changed or cut while in use",
    signal.SIGSEGV: "crashed (SIGSEGV)",
    signal.SIGABRT: "gave up (SIGABRT)",
}

Answer = Mapping[str, Any]


class Child:
    """A child process; answers come from hear(). Its own session keeps a terminal's Ctrl-C from it."""

    command: ClassVar[Sequence[str]] = COMMAND

    def __init__(self) -> None:
        environment = {**os.environ, "LINFUSION_PARENT": str(os.getpid()), "DIFFUSERS_DISABLE_REMOTE_CODE": "1"}
        pipe = subprocess.PIPE
        self._oom_kills = oom_kills()
        self.process = subprocess.Popen(
            list(self.command), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, start_new_session=True
        )
        self._answers: queue.Queue[Answer] = queue.Queue()
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self._heard = self._looked = time.monotonic()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        self._text_encoders = [
            threading.Thread(target=self._read_answers, args=(self.process.stdout,), daemon=True),
            threading.Thread(target=self._read_words, args=(self.process.stderr,), daemon=True),
        ]
        for reader in self._text_encoders:
            reader.start()

    def ask(self, order: Mapping[str, object]) -> None:
        """Orders an image; a child that is dead already is noticed by hear()."""
        self._heard = self._looked = time.monotonic()
        assert self.process.stdin is not None
        with contextlib.suppress(OSError):
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()

    def hear(self, seconds: float) -> Answer | None:
        """The next answer, or None after so long."""
        now = time.monotonic()
        if now - self._looked > PAUSE_SECONDS + seconds:  # suspended, or stopped by a debugger: the child was, too
            self._heard = now
        self._looked = now
        try:
            answer = self._answers.get(timeout=seconds)
        except queue.Empty:
            return None
        self._heard = time.monotonic()
        return answer

    @property
    def silent_seconds(self) -> float:
        """How long nothing was heard, although a child that runs gives a sign every two seconds."""
        return time.monotonic() - self._heard

    @property
    def dead(self) -> bool:
        return self.process.poll() is not None and self._answers.empty() and not self._text_encoders[0].is_alive()

    def stop(self) -> None:
        """Asks it to keep what it has done, and to end."""
        with contextlib.suppress(OSError):
            self.process.terminate()

    def end(self, patience_seconds: float = 10.0) -> None:
        """Sees to its end."""
        if self.process.stdin is not None:
            with contextlib.suppress(OSError):
                self.process.stdin.close()
        try:
            self.process.wait(patience_seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for reader in self._text_encoders:
            reader.join()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()

    def kill(self) -> None:
        """Ends it now; also one that is stopped or hangs."""
        with contextlib.suppress(OSError):
            self.process.kill()
        self.end()

    @property
    def ran_out_of_memory(self) -> bool:
        """Whether it died by SIGKILL and the control group counted a kill for memory meanwhile."""
        return self.process.returncode == -signal.SIGKILL and oom_kills() > self._oom_kills

    def cause(self) -> str:
        """What it died of, in words; its own last ones if it had some."""
        code = self.process.returncode
        if self.ran_out_of_memory:
            text = "was killed by the memory limit (SIGKILL)"
        elif code is not None and code < 0:
            number = -code
            text = CAUSES.get(signal.Signals(number), f"died by {signal.Signals(number).name}")
        else:
            text = f"ended with exit code {code}"
        last = next((word for word in reversed(self._words) if word.strip()), "")
        return f"the process {text}" + (f". Its last words: {last}" if last else "")

    def _read_answers(self, stream: IO[bytes]) -> None:
        for line in stream:
            with contextlib.suppress(ValueError):  # torn by its death
                self._answers.put(parse_json(line, "an answer"))

    def _read_words(self, stream: IO[bytes]) -> None:
        for line in stream:
            self._words.append(redacted(line.decode("utf-8", "replace").rstrip()))
