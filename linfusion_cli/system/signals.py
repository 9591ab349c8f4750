"""Requests to stop this process (Ctrl-C, SIGTERM, SIGHUP, SIGXCPU), obeyed where no work is lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from linfusion_cli.errors import HUNG_UP, INTERRUPTED, OUT_OF_TIME, TERMINATED, StandardOutputError

# Signal -> exit code. SIGHUP comes when the terminal is closed, SIGXCPU every second beyond `ulimit -t`; Windows has
# neither.
CODES = {signal.SIGTERM: TERMINATED, signal.SIGINT: INTERRUPTED} | {
    signal.Signals[name]: code
    for name, code in (("SIGHUP", HUNG_UP), ("SIGXCPU", OUT_OF_TIME))
    if name in signal.Signals.__members__
}
REASONS = {
    HUNG_UP: "stopped by SIGHUP",
    TERMINATED: "stopped by SIGTERM",
    OUT_OF_TIME: "stopped by SIGXCPU: the limit on processor time (ulimit -t) is reached",
    StandardOutputError.exit_code: "nobody reads standard output any more, or its disk is full",
}


@dataclass(slots=True)
class Stop:
    """The request of this process. Signals belong to the process, so there is one instance: STOP.

    code:    the requested exit code, 0 without a request
    patient: a step is running whose work would be lost: the first signal waits for its end, the second does not
    """

    code: int = 0
    patient: bool = False

    def ask(self, code: int) -> None:
        """Called by a signal: stops at once, or after the running step."""
        if code == self.code == OUT_OF_TIME:  # nobody lost patience: the system repeats it
            return
        again, self.code = bool(self.code), code
        if again or not self.patient:
            self.obey()

    def request(self, code: int) -> None:
        """Stops at the next place where nothing is lost. Raises nothing, so that any thread may call it."""
        self.code = self.code or code

    def obey(self) -> None:
        """Stops if there is a request: raises KeyboardInterrupt for Ctrl-C, SystemExit for all others."""
        if not self.code:
            return
        code = self.code
        self.reset()
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        raise SystemExit(code)

    def reset(self) -> None:
        """Forgets the request: it has been obeyed, or a new command begins."""
        self.code, self.patient = 0, False


STOP = Stop()


def handle_signals() -> Callable[[], object]:
    """Makes the signals of CODES ask STOP; returns what undoes it.

    A signal that this process was told to ignore when it was started stays ignored (nohup, a shell's background jobs).
    Only the main thread may change handlers: elsewhere nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    STOP.reset()
    heard = [number for number in CODES if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in heard}
    return lambda: [signal.signal(number, handler or signal.SIG_DFL) for number, handler in before.items()]


def _stop(signum: int, frame: FrameType | None) -> None:
    STOP.ask(CODES[signal.Signals(signum)])
