"""A drawing (SVG) of softmax and linear attention against the size of an image: distance to renders, time, memory."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import NamedTuple

from linfusion_cli.errors import OutOfMemoryError
from linfusion_cli.evaluate.ablations import Claim
from linfusion_cli.evaluate.bootstrap import Score
from linfusion_cli.evaluate.samples import Way, plan_of
from linfusion_cli.geometry import Size
from linfusion_cli.system.device import Machine

SIDES_PX = (256, 512, 1024, 2048, 4096)
COLORS = {"softmax": "#d1495b", "linear": "#00798c"}
PANEL_WIDTH, HEIGHT = 320, 300
LEFT, RIGHT, TOP, BOTTOM = 62, 24, 46, 40
DISTANCE = "distance whole"


class Point(NamedTuple):
    """A value, above 0, of images of one side in pixels, with the ends of its interval."""

    side_px: int
    value: float
    low: float
    high: float

    @staticmethod
    def exact(side_px: int, value: float) -> Point:
        """A value without an interval."""
        return Point(side_px, value, value, value)


@dataclass(frozen=True, slots=True)
class Curve:
    """The values of one attention."""

    name: str
    points: tuple[Point, ...]


def distance_curves(rows: Iterable[tuple[Claim, dict[str, Score]]], train_size_px: int) -> list[Curve]:
    """The Fréchet distances of the model's own attentions, without the upscale, by size."""
    found: dict[str, list[Point]] = {name: [] for name in COLORS}
    for claim, scores in rows:
        name, _, direct = claim.name.partition(", ")
        if name in found and direct == "direct" and DISTANCE in scores:
            score = scores[DISTANCE]
            found[name].append(Point(claim.times * train_size_px, score.value, score.low, score.high))
    return [Curve(name, tuple(sorted(points))) for name, points in found.items()]


def planned_curves(preset: str, machine: Machine) -> tuple[list[Curve], list[Curve]]:
    """Seconds and gigabytes of images in one stage, as planned here; sizes that do not fit are left out."""
    seconds: list[Curve] = []
    memory: list[Curve] = []
    for name in COLORS:
        plans = [(side, plan) for side in SIDES_PX if (plan := _planned(preset, name, machine, side)) is not None]
        seconds.append(Curve(name, tuple(Point.exact(side, plan[0]) for side, plan in plans)))
        memory.append(Curve(name, tuple(Point.exact(side, plan[1] / 1e9) for side, plan in plans)))
    return seconds, memory


def _planned(preset: str, attention: str, machine: Machine, side: int) -> tuple[float, int] | None:
    try:
        plan = plan_of(preset, Way(attention=attention, direct=True), machine, "a lake", 0, Size(side, side))
    except OutOfMemoryError:
        return None
    return plan.seconds, plan.peak_bytes


def size_svg(distances: list[Curve], seconds: list[Curve], memory: list[Curve]) -> str:
    """Three panels with logarithmic axes: distances with their intervals, seconds, gigabytes."""
    panels = (("Fréchet distance", distances), ("seconds, planned", seconds), ("GB, planned", memory))
    width = PANEL_WIDTH * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#333">',
        f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>',
        *(part for at, (title, curves) in enumerate(panels) for part in _panel(title, curves, at * PANEL_WIDTH)),
        *(
            f'<text x="{LEFT + 90 * at}" y="38" fill="{color}">{escape(name)}</text>'
            for at, (name, color) in enumerate(COLORS.items())
        ),
    ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(title: str, curves: Sequence[Curve], left: int) -> Iterator[str]:
    """One panel; without a point it says so."""
    yield f'<text x="{left + LEFT}" y="20" font-size="14">{escape(title)}</text>'
    points = [point for curve in curves for point in curve.points]
    if not points:
        yield f'<text x="{left + LEFT}" y="{HEIGHT // 2}">not measured</text>'
        return
    sides = [point.side_px for point in points]
    across = _Scale(min(sides), max(sides), left + LEFT, left + PANEL_WIDTH - RIGHT)
    upwards = _Scale(min(point.low for point in points), max(point.high for point in points), HEIGHT - BOTTOM, TOP)
    for value in _ticks(upwards):
        y = upwards.at(value)
        yield f'<line x1="{across.first}" y1="{y}" x2="{across.last}" y2="{y}" stroke="#ddd"/>'
        yield f'<text x="{across.first - 8}" y="{y + 4}" text-anchor="end">{value:g}</text>'
    for side in sorted(set(sides)):
        yield f'<text x="{across.at(side)}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{side}</text>'
    for curve in curves:
        color = COLORS[curve.name]
        line = " ".join(f"{across.at(side)},{upwards.at(value)}" for side, value, *_ in curve.points)
        yield f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>'
        for side, value, low, high in curve.points:
            x, told = across.at(side), f"{curve.name}, {side}x{side}: {value:.3g} ({low:.3g} to {high:.3g})"
            yield f'<line x1="{x}" y1="{upwards.at(low)}" x2="{x}" y2="{upwards.at(high)}" stroke="{color}"/>'
            yield f'<circle cx="{x}" cy="{upwards.at(value)}" r="3" fill="{color}"><title>{told}</title></circle>'


@dataclass(frozen=True, slots=True)
class _Scale:
    """A logarithmic axis: values from `least` to `most` lie between two pixels."""

    least: float
    most: float
    first: float
    last: float

    def at(self, value: float) -> float:
        """The pixel of a value; values at or below 0 lie at the beginning."""
        least = max(self.least, 1e-9)
        share = math.log(max(value, least) / least) / max(math.log(max(self.most, least) / least), 1e-9)
        return round(self.first + (self.last - self.first) * share, 1)


def _ticks(scale: _Scale) -> list[float]:
    """Round values in the range of an axis: 1, 2 and 5 of each power of ten; the ends where there is none."""
    powers = range(math.floor(math.log10(max(scale.least, 1e-9))), math.ceil(math.log10(max(scale.most, 1e-9))) + 1)
    found = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    inside = [value for value in found if scale.least <= value <= scale.most]
    return inside or [scale.least, scale.most]
