"""Requests to stop this process (Ctrl-C, SIGTERM), obeyed where no work is lost."""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.errors import INTERRUPTED


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
        again, self.code = bool(self.code), code
        if again or not self.patient:
            self.obey()

    def obey(self) -> None:
        """Stops if there is a request: raises KeyboardInterrupt for Ctrl-C, SystemExit for SIGTERM."""
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
