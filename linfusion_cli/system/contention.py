"""How much other programs slow this one down: before a render by the load, after it by processor time."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

LOADAVG = Path("/proc/loadavg")


def slowdown(cores: int) -> float:
    """How many times as long work on so many cores takes now as on an idle machine; 1 where the load is not known.

    Counted are the programs that ran in the last minute and still run: a load that rises or falls is no guess of hours.
    """
    try:
        others = os.getloadavg()[0]
    except (AttributeError, OSError):
        return 1.0
    return max(1.0, (min(others, _running_now() - 1) + cores) / (os.cpu_count() or cores))


def _running_now() -> float:
    """How many threads run or could run, this one too; infinite where the system does not say."""
    try:
        return float(LOADAVG.read_text(encoding="utf-8").split()[3].partition("/")[0])
    except (OSError, ValueError, IndexError):
        return float("inf")


@dataclass(frozen=True, slots=True)
class Contention:
    """Processor seconds until some moment: of this process, of all, and of none."""

    own: float
    busy: float
    idle: float

    @staticmethod
    def now() -> Contention:
        """As of this moment."""
        times = psutil.cpu_times()
        idle = times.idle + getattr(times, "iowait", 0.0)
        guests = getattr(times, "guest", 0.0) + getattr(times, "guest_nice", 0.0)  # they are in user and nice as well
        return Contention(time.process_time(), sum(times) - idle - guests, idle)

    def quiet_seconds(self, taken_seconds: float, until: Contention) -> float:
        """What took so long from this moment to another, as long as it would have taken on an idle machine.

        Cores that were idle were nobody's loss: only what others took beyond them is given back.
        """
        own = until.own - self.own
        others = max(0.0, (until.busy - self.busy) - own - (until.idle - self.idle))
        return taken_seconds * own / (own + others) if own > 0 else taken_seconds
