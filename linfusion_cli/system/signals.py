"""Whether somebody asked this process to stop (Ctrl-C, SIGTERM), answered where no work is lost."""

from __future__ import annotations

from dataclasses import dataclass

from linfusion_cli.errors import INTERRUPTED


@dataclass(slots=True)
class Stop:
    """Signals belong to the process, so there is one of these: STOP.

    code:    the exit code that was asked for, 0 while nobody asked
    patient: a step is running whose work would be lost; the first signal waits for its end, the second does not
    """

    code: int = 0
    patient: bool = False

    def ask(self, code: int) -> None:
        """Called by a signal: stops at once, or marks that the running step is the last one."""
        again, self.code = bool(self.code), code
        if again or not self.patient:
            self.obey()

    def obey(self) -> None:
        """Stops if somebody asked. Raises KeyboardInterrupt for Ctrl-C and SystemExit for SIGTERM."""
        if not self.code:
            return
        code = self.code
        self.reset()
        if code == INTERRUPTED:
            raise KeyboardInterrupt
        raise SystemExit(code)

    def reset(self) -> None:
        """Forgets what was asked: it has been answered, or a new command begins."""
        self.code, self.patient = 0, False


STOP = Stop()
