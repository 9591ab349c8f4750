"""How near each phase of an image comes to what this machine can do at most; prints a table for docs/log.md.

    python -m bench.roofline [--size 3840x2160] [--preset landscape] [--dtype float32] [--threads N] [--json FILE]

Peaks: multiply-adds a second of a convolution and of a product, bytes a second of a copy, each in the sizes of the
networks, the best of a few runs before the image and after it. Work: the multiply-adds of the plan, and its values, of
which each is written once and read once at least. A phase can take no less than the longer of the two at their peaks;
its share is that bound over the seconds that it took. Only on an idle machine do the numbers mean anything.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from linfusion_cli.config.request import Request
from linfusion_cli.config.resolve import resolve
from linfusion_cli.events import Event, PhaseFinished
from linfusion_cli.planning.cost_estimate import Phase
from linfusion_cli.planning.memory_model import BYTES_OF
from linfusion_cli.planning.planner import Plan, architecture_of, make_plan
from linfusion_cli.system.device import find_machine
from linfusion_cli.system.process_setup import own_process

if TYPE_CHECKING:
    import torch

RUNS = 7
ACCESSES = 2  # of memory for each value: it is written by one layer and read by another
COPY_BYTES = 256 << 20
# (channels, rows, columns) of 3x3 convolutions and (rows, in, out) of products, as bands of the networks have them
CONVOLUTIONS = ((64, 64, 512), (256, 64, 256), (512, 64, 64))
PRODUCTS = ((4096, 320, 2560), (4096, 1280, 1280))


@dataclass(frozen=True)
class Peaks:
    """What the machine does at most: multiply-adds a second by kind, and bytes a second read and written by a copy."""

    convolution: float
    product: float
    copy: float

    @property
    def macs(self) -> float:
        """Of the better kind: nothing is faster."""
        return max(self.convolution, self.product)

    def better(self, other: Peaks) -> Peaks:
        """The best of both measurements."""
        return Peaks(*(max(pair) for pair in zip(asdict(self).values(), asdict(other).values(), strict=True)))


@dataclass(frozen=True)
class Share:
    """A phase: its work, the seconds that it can't go below, and those that it took."""

    name: str
    macs: float
    bytes: float
    bound_seconds: float
    seconds: float
    by: str  # "compute" or "memory", whichever bounds it

    @property
    def share(self) -> float:
        """0 to 1: how much of the possible speed was reached."""
        return self.bound_seconds / self.seconds


def share_of(name: str, macs: float, moved_bytes: float, seconds: float, peaks: Peaks) -> Share:
    """The roofline of one phase (Williams, Waterman and Patterson 2009, Communications of the ACM 52)."""
    compute, memory = macs / peaks.macs, moved_bytes / peaks.copy
    by = "compute" if compute >= memory else "memory"
    return Share(name, macs, moved_bytes, max(compute, memory), seconds, by)


def moved_bytes(phase: Phase, number_bytes: int) -> float:
    """The bytes that a phase moves at least: its values, and the copies of its slabs that don't lie in memory."""
    return sum(ACCESSES * number_bytes * work.values + work.link_bytes + work.file_bytes for work in phase.work)


def shares(plan: Plan, finished: Iterable[PhaseFinished], peaks: Peaks) -> list[Share]:
    """Of every phase of the plan that has work and was measured."""
    vae = architecture_of(plan.job).vae
    seconds = {(phase.name, phase.stage): phase.seconds for phase in finished}
    found = []
    for phase in plan.phases:
        if phase.macs and (taken := seconds.get((phase.name, phase.stage))):
            number_bytes = BYTES_OF[plan.dtype if phase.name == "denoise" else vae.dtype(plan.dtype)]
            name = f"{phase.name} {phase.stage}"
            found.append(share_of(name, phase.macs, moved_bytes(phase, number_bytes), taken, peaks))
    return found


def together(parts: Sequence[Share]) -> Share:
    """All phases, one after the other."""
    sums = (sum(getattr(part, name) for part in parts) for name in ("macs", "bytes", "bound_seconds", "seconds"))
    return Share("all", *sums, by="")


def table(parts: Sequence[Share]) -> str:
    """Markdown."""
    lines = ["| phase | GMAC | GB | bound s | by | measured s | share |", "|---|---|---|---|---|---|---|"]
    for part in (*parts, together(parts)):
        numbers = f"{part.macs / 1e9:.0f} | {part.bytes / 1e9:.1f} | {part.bound_seconds:.2f} | {part.by}"
        lines.append(f"| {part.name} | {numbers} | {part.seconds:.2f} | {part.share:.0%} |")
    return "\n".join(lines)


def measure_peaks(dtype: torch.dtype, clock: Callable[[], float] = time.perf_counter) -> Peaks:
    """On the CPU, with the threads that torch has."""
    import torch

    with torch.inference_mode():
        convolution = max(_convolution(sizes, dtype, clock) for sizes in CONVOLUTIONS)
        product = max(_product(sizes, dtype, clock) for sizes in PRODUCTS)
        source = torch.ones(COPY_BYTES, dtype=torch.uint8)
        target = torch.empty_like(source)
        return Peaks(convolution, product, 2 * COPY_BYTES / _best(lambda: target.copy_(source), clock))


def _convolution(sizes: tuple[int, int, int], dtype: torch.dtype, clock: Callable[[], float]) -> float:
    import torch

    channels, rows, columns = sizes
    layer = torch.nn.Conv2d(channels, channels, 3, padding=1).to(dtype)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        image = torch.ones(1, channels, rows, columns, dtype=dtype).to(memory_format=layout)
        found.append(9 * channels**2 * rows * columns / _best(lambda image=image: layer(image), clock))
    return max(found)


def _product(sizes: tuple[int, int, int], dtype: torch.dtype, clock: Callable[[], float]) -> float:
    import torch

    rows, entering, leaving = sizes
    layer, tokens = torch.nn.Linear(entering, leaving).to(dtype), torch.ones(rows, entering, dtype=dtype)
    return rows * entering * leaving / _best(lambda: layer(tokens), clock)


def _best(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Seconds of the fastest of RUNS; one before them does not count."""
    work()
    taken = []
    for _ in range(RUNS):
        started = clock()
        work()
        taken.append(clock() - started)
    return max(min(taken), 1e-9)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Roofline shares of an image's phases")
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--preset", default="landscape")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0: as it takes by itself")
    parser.add_argument("--json", type=Path, help="writes peaks and shares there too")
    return parser.parse_args()


def main() -> None:
    """Measures peaks, makes the image on the CPU, measures them again, and prints the table."""
    given = _arguments()
    own_process()
    with tempfile.TemporaryDirectory() as folder:
        request = Request(
            prompt="a mountain lake at dawn",
            preset=given.preset,
            size=given.size,
            dtype=given.dtype,
            seed=1,
            output=Path(folder, "image.png"),
            device="cpu",
        )
        plan = make_plan(resolve(request), find_machine("cpu"))
        finished: list[PhaseFinished] = []

        def see(event: Event) -> None:
            if isinstance(event, PhaseFinished):
                finished.append(event)

        import torch

        from linfusion_cli.engine.memory.dtypes import DTYPES
        from linfusion_cli.render import render

        if given.threads:
            torch.set_num_threads(given.threads)
        before = measure_peaks(DTYPES[plan.dtype])
        rendered = render(plan, see)
        peaks = before.better(measure_peaks(DTYPES[plan.dtype]))
    found = shares(rendered.plan, finished, peaks)
    print(
        f"{plan.size}, {plan.dtype}, {torch.get_num_threads()} threads: convolution {peaks.convolution / 1e9:.0f} and "
        f"product {peaks.product / 1e9:.0f} GMAC/s, copy {peaks.copy / 1e9:.1f} GB/s\n\n{table(found)}"
    )
    if given.json:
        told = {"peaks": asdict(peaks), "phases": [{**asdict(part), "share": part.share} for part in found]}
        given.json.write_text(json.dumps(told, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
