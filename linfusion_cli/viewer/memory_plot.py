"""The memory of a render as a drawing (SVG): from the log of `memory_log`, or from the phases in an image's record."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT = 640, 340
LEFT, RIGHT, TOP, BOTTOM = 70, 16, 34, 40
COLORS = {"load": "#8d99ae", "denoise": "#3a86ff", "encode": "#f4a259", "decode": "#2a9d8f"}
OTHER_COLOR = "#b56576"
MOST_POINTS = 4000
LONGEST_SECONDS = 1e9
LOG_BYTES = 64 << 20  # of a log that are read
_PHASE = re.compile(r"([a-z ]{1,20}) (-?\d{1,3})")


@dataclass(frozen=True, slots=True)
class PhaseSpan:
    """A phase: when it began and ended, in seconds, and the most memory that it held."""

    name: str
    stage: int
    start_seconds: float
    end_seconds: float
    peak_bytes: int


@dataclass(frozen=True, slots=True)
class MemoryHistory:
    """What a plot shows. samples: (seconds, bytes held), in order."""

    phases: tuple[PhaseSpan, ...]
    samples: tuple[tuple[float, int], ...] = ()


def history_of_log(text: str) -> MemoryHistory:
    """The history in a memory log. Lines that are no events of one are left out: a running log may end in half a line.

    Raises ValueError where there is not one event.
    """
    phases: list[PhaseSpan] = []
    samples: list[tuple[float, int]] = []
    for line in text.splitlines():
        try:
            event = json.loads(line)
            at = _seconds(event["at_seconds"])
            if event["event"] == "MemorySampled":
                samples.append((at, int(event["device_bytes"] or event["resident_bytes"])))
            elif event["event"] == "PhaseFinished":
                peak = int(event["device_peak_bytes"] or event["peak_bytes"])
                start = max(0.0, at - _seconds(event["seconds"]))
                phases.append(PhaseSpan(str(event["name"]), int(event["stage"]), start, at, peak))
        except (ValueError, KeyError, TypeError, OverflowError):
            continue
    if not phases and not samples:
        raise ValueError("it holds no event of a memory log")
    return MemoryHistory(tuple(phases), tuple(samples))


def history_of_record(record: Mapping[str, Any]) -> MemoryHistory:
    """The phases that a record holds, one after the other. Raises ValueError for a record without them."""
    at, phases = 0.0, []
    measured = record.get("measured")
    for key, values in measured.items() if isinstance(measured, dict) else ():
        match = _PHASE.fullmatch(str(key))
        if match is None or not isinstance(values, dict):
            continue
        try:
            seconds, peak = _seconds(values["seconds"]), int(values["peak_bytes"])
        except (KeyError, TypeError, ValueError, OverflowError):
            continue
        phases.append(PhaseSpan(match[1], int(match[2]), at, at + seconds, peak))
        at += seconds
    if not phases:
        raise ValueError("its record holds no measured phases")
    return MemoryHistory(tuple(phases))


def _seconds(value: Any) -> float:
    """A time in a stranger's file. Raises ValueError for one that is none."""
    seconds = float(value)
    if not 0 <= seconds < LONGEST_SECONDS:
        raise ValueError(f"{seconds} seconds")
    return seconds


def memory_svg(history: MemoryHistory, title: str) -> str:
    """The drawing: a block for each phase as high as its peak, and a line of the samples. ASCII but for the title."""
    last = max([phase.end_seconds for phase in history.phases] + [at for at, _ in history.samples] + [1e-3])
    highest = max([phase.peak_bytes for phase in history.phases] + [held for _, held in history.samples] + [1])
    axes = _Axes(last, highest)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="20" font-size="14">{escape(title)}</text>',
        *axes.lines(),
        *(_block(phase, axes) for phase in history.phases),
        *_line(history.samples, axes),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


@dataclass(frozen=True, slots=True)
class _Axes:
    last_seconds: float
    highest_bytes: int

    def x(self, seconds: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.last_seconds, 1)

    def y(self, held_bytes: float) -> float:
        return round(HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * held_bytes / (1.08 * self.highest_bytes), 1)

    def lines(self) -> list[str]:
        gigabytes = self.highest_bytes / 1e9
        found = []
        for value in _ticks(1.08 * gigabytes):
            y = self.y(value * 1e9)
            found.append(f'<line x1="{LEFT}" y1="{y}" x2="{WIDTH - RIGHT}" y2="{y}" stroke="#ddd"/>')
            found.append(f'<text x="{LEFT - 8}" y="{y + 4}" text-anchor="end">{value:g} GB</text>')
        for value in _ticks(self.last_seconds):
            x = self.x(value)
            found.append(f'<text x="{x}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{value:g} s</text>')
        return found


def _ticks(highest: float) -> Sequence[float]:
    """Some five round numbers from 0 to `highest`."""
    power = 10.0 ** (math.floor(math.log10(highest)) - 1)
    steps = (factor * scale for scale in (power, 10 * power) for factor in (1.0, 2.0, 2.5, 5.0))
    step = next(each for each in steps if highest / each <= 6)
    return [round(number * step, 9) for number in range(int(highest / step) + 1)]


def _block(phase: PhaseSpan, axes: _Axes) -> str:
    left, right, top = axes.x(phase.start_seconds), axes.x(phase.end_seconds), axes.y(phase.peak_bytes)
    width, height = round(max(1.0, right - left), 1), round(HEIGHT - BOTTOM - top, 1)
    color = COLORS.get(phase.name, OTHER_COLOR)
    name = phase.name if phase.stage < 0 else f"{phase.name} {phase.stage}"
    told = f"{name}: {phase.end_seconds - phase.start_seconds:.1f} s, {phase.peak_bytes / 1e9:.2f} GB"
    label = f'<text x="{left + 4}" y="{top + 15}" fill="#222">{escape(name)}</text>' if width > 8 * len(name) else ""
    shape = f'<rect x="{left}" y="{top}" width="{width}" height="{height}" fill="{color}" fill-opacity="0.35"'
    return f'{shape} stroke="{color}"><title>{escape(told)}</title></rect>{label}'


def _line(samples: Sequence[tuple[float, int]], axes: _Axes) -> Iterable[str]:
    if len(samples) < 2:
        return []
    thinned = samples[:: -(-len(samples) // MOST_POINTS)]
    points = " ".join(f"{axes.x(at)},{axes.y(held)}" for at, held in thinned)
    return [f'<polyline points="{points}" fill="none" stroke="#222" stroke-width="1.2"/>']
