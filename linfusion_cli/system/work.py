"""The work of a phase by the rate that it rests on, and the speed that the times of a render tell."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from linfusion_cli.system.speed import Speed, bounded

LEARN_SHARE = 0.5  # of the way from earlier renders' rates to the next's: the machine may have been busy either time
ROUNDS = 60  # after which a fit changes no more than noise does
ANCHOR_SHARE = 0.003  # of a render's time: rates that take much less of it can't be told from its noise, and stay
MOST_OFF = 300.0  # times from what is assumed for the kind of device: a rate beyond was measured while it was disturbed
PER_SECOND = ("macs_per_second", "values_per_second", "link_bytes_per_second", "file_bytes_per_second")
RATES = (*PER_SECOND, "call_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What passes of one kind ask of a device.

    macs: multiply-adds; values: activations that layers give; calls: of a layer on one band
    link_bytes, file_bytes: copied between RAM and an accelerator, and to and from scratch files
    overlapped: copies run beside the computing
    """

    macs: float
    values: float
    calls: float
    link_bytes: float
    file_bytes: float
    overlapped: bool

    def seconds_by_rate(self, speed: Speed) -> dict[str, float]:
        """The seconds that each rate of a speed accounts for; copies beside longer computing account for none."""
        computing = {
            "macs_per_second": self.macs / speed.macs_per_second,
            "values_per_second": self.values / speed.values_per_second,
            "call_seconds": self.calls * speed.call_seconds,
        }
        link = {"link_bytes_per_second": self.link_bytes / speed.link_bytes_per_second}
        files = {"file_bytes_per_second": self.file_bytes / speed.file_bytes_per_second}
        if self.overlapped:
            return max((computing, link, files), key=lambda parts: sum(parts.values()))
        return {**computing, **link, **files}

    def seconds(self, speed: Speed) -> float:
        """How long it takes."""
        return sum(self.seconds_by_rate(speed).values())


class Timed(NamedTuple):
    """A phase's work, and the seconds that a render took for it."""

    work: tuple[Work, ...]
    seconds: float


def learned(known: Speed, assumed: Speed, phases: Iterable[Timed], start_seconds: float) -> Speed:
    """The speed after a render: each rate is corrected by the phases that rest on it, in proportion to their share.

    A rate that no phase used stays. assumed: for the kind of device. A first render replaces what a benchmark told,
    later ones go half way. Found are the rates that explain the times with the least change (simultaneous
    multiplicative reconstruction: Darroch and Ratcliff 1972, doi:10.1214/aoms/1177692379).
    """
    phases = [phase for phase in phases if phase.seconds > 0 and phase.work]
    known = _plausible(known, assumed)
    fitted = known
    for _ in range(ROUNDS):
        fitted = _nearer(fitted, known, phases)
    share = LEARN_SHARE if known.rendered else 1.0
    rates = {name: _between(getattr(known, name), getattr(fitted, name), share) for name in RATES}
    start = _between(known.start_seconds, start_seconds, LEARN_SHARE if known.measured else 1.0)
    return replace(known, **bounded(**rates, start_seconds=start), measured=True, rendered=True)


def _nearer(speed: Speed, known: Speed, phases: list[Timed]) -> Speed:
    """One round: each rate changes by the mean of how much too long or short its phases were planned."""
    planned = [[part.seconds_by_rate(speed) for part in phase.work] for phase in phases]
    totals = [sum(sum(part.values()) for part in parts) for parts in planned]
    anchor = ANCHOR_SHARE * sum(totals)
    changed = {}
    for name in RATES:
        parts = [sum(part.get(name, 0.0) for part in of_phase) for of_phase in planned]
        if not any(parts):
            continue
        slower = sum(
            part * math.log(phase.seconds / total)
            for part, phase, total in zip(parts, phases, totals, strict=True)
            if part
        )
        rate, sign = getattr(speed, name), -1.0 if name in PER_SECOND else 1.0
        slower += anchor * sign * math.log(getattr(known, name) / rate)
        changed[name] = rate * math.exp(sign * slower / (sum(parts) + anchor))
    return replace(speed, **bounded(**changed))


def _plausible(known: Speed, assumed: Speed) -> Speed:
    """The speed, with no rate further than MOST_OFF times from the assumed one."""
    usual = {name: getattr(assumed, name) for name in RATES}
    near = {name: min(max(getattr(known, name), rate / MOST_OFF), rate * MOST_OFF) for name, rate in usual.items()}
    return replace(known, **near)


def _between(one: float, other: float, share: float) -> float:
    """A share of the way from one positive number to another, by factors."""
    return float(one ** (1 - share) * max(other, 1e-9) ** share)
