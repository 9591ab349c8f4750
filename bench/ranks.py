"""Measures one image by several processes against one process with as many threads, and prints tables in Markdown.

    python bench/ranks.py [--size 3840x2160] [--ranks 2] [--repeat 3] [--steps N] [--json FILE]

The machine should be idle and have as many cores as there are ranks. Both sides make the built-in model's image by the
command line, in turns; the table has the median of the turns. Memory is the operating system's peak of each process,
and beside it the same without what a process takes that has imported the engine and computed nothing. The bytes that
ranks count as sent stand beside the forecast of `linfusion plan --ranks`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PROMPT = "purple mountains at dusk, full moon, by a lake"
IMPORTS = """
from linfusion_cli.engine import pipeline
from linfusion_cli.engine.memory.meter import process_peak_bytes
print(process_peak_bytes())
"""


@dataclass(frozen=True)
class Measured:
    """One run: the wall clock of the whole command in seconds, and of each process its peak and the bytes it sent."""

    seconds: float
    peak_bytes: tuple[int, ...]
    sent_bytes: tuple[int, ...] = ()


def environment(threads: int, cache: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": str(threads),
        "XDG_CACHE_HOME": str(cache),
    }


def run(words: list[str], threads: int, cache: Path) -> tuple[str, float]:
    """Runs a Python command to its end: its output and its seconds."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, *words], env=environment(threads, cache), stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        sys.exit(f"{' '.join(words)}: exit code {done.returncode}")
    return done.stdout, time.monotonic() - started


def image(size: str, ranks: int, threads: int, cache: Path, more: list[str]) -> Measured:
    """One image by `ranks` processes; `threads` is what one process alone may use."""
    output = cache / f"{ranks}-{time.monotonic_ns()}.png"
    words = ["-m", "linfusion_cli", "generate", PROMPT, "--seed", "12", "--size", size, "--json", "-o", str(output)]
    out, seconds = run([*words, "--ranks", str(ranks), *more], threads, cache)
    summary: dict[str, Any] = next(row for row in map(json.loads, out.splitlines()) if row["type"] == "summary")
    uses = summary.get("ranks", [summary])
    sent = [sum(value for name, value in use.items() if name != "peak_bytes") for use in uses] if ranks > 1 else []
    return Measured(seconds, tuple(use["peak_bytes"] for use in uses), tuple(sent))


def largest_difference(cache: Path) -> int:
    """In levels of 255, between the first image of each side."""
    import numpy as np
    from PIL import Image

    Image.MAX_IMAGE_PIXELS = None
    one, several = (sorted(cache.glob(f"{kind}-*.png"))[0] for kind in ("1", "[2-9]"))
    a, b = (np.asarray(Image.open(path)).astype(np.int16) for path in (one, several))
    return int(abs(a - b).max())


def forecast(size: str, ranks: int, cache: Path, more: list[str]) -> dict[str, Any]:
    """What the plan of one rank says: its peak, and the bytes that all send."""
    words = ["-m", "linfusion_cli", "plan", PROMPT, "--size", size, "--device", "cpu", "--ranks", str(ranks), "--json"]
    return dict(json.loads(run([*words, *more], 1, cache)[0]))


def idle_bytes(cache: Path) -> int:
    """What a process takes that has imported the engine and computed nothing."""
    return int(run(["-c", IMPORTS], 1, cache)[0])


def table(alone: list[Measured], several: list[Measured], idle: int, planned: dict[str, Any], ranks: int) -> list[str]:
    seconds = [statistics.median(turn.seconds for turn in turns) for turns in (alone, several)]
    peaks = [statistics.median(max(turn.peak_bytes) for turn in turns) for turns in (alone, several)]
    own = [peak - idle for peak in peaks]
    sent = statistics.median(sum(turn.sent_bytes) for turn in several)
    told = planned["by_ranks"]["sent_bytes"]
    return [
        f"| | one process, {ranks} threads | {ranks} ranks of one thread | ratio | to reach |",
        "|---|---|---|---|---|",
        f"| time, s | {seconds[0]:.1f} | {seconds[1]:.1f} | {seconds[1] / seconds[0]:.2f} | 1.10 |",
        f"| largest peak, MB | {peaks[0] / 1e6:.0f} | {peaks[1] / 1e6:.0f} | {peaks[1] / peaks[0]:.2f} | |",
        f"| the same without {idle / 1e6:.0f} MB of libraries | {own[0] / 1e6:.0f} | {own[1] / 1e6:.0f} | "
        f"{own[1] / own[0]:.2f} | 0.65 |",
        f"| planned peak of a rank, MB | | {planned['peak_bytes'] / 1e6:.0f} | {planned['peak_bytes'] / peaks[1]:.2f} "
        "of the measured | 1.00 and more |",
        f"| sent, MB | {sent / 1e6:.2f} | forecast {told / 1e6:.2f} | {sent / told:.3f} | 0.95 to 1.05 |",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="One image by several processes, against one process.")
    parser.add_argument("--size", default="3840x2160")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--json", type=Path, help="write all turns to this file as well")
    parser.add_argument("--max-memory", help="the limit of each process, for both sides")
    parser.add_argument("--steps", help="fewer steps, to try the benchmark itself")
    given = parser.parse_args()
    more = [word for name in ("max_memory", "steps") if (value := getattr(given, name)) is not None
            for word in (f"--{name.replace('_', '-')}", value)]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        idle = idle_bytes(cache)
        image("256x256", 1, given.ranks, cache, [])  # the machine's speed is measured and kept
        next(cache.glob("1-*.png")).unlink()
        turns = [
            (image(given.size, 1, given.ranks, cache, more), image(given.size, given.ranks, given.ranks, cache, more))
            for _ in range(given.repeat)
        ]
        planned = forecast(given.size, given.ranks, cache, more)
        different = largest_difference(cache)
    alone, several = ([turn[side] for turn in turns] for side in (0, 1))
    print(f"{given.size}, {platform.processor() or platform.machine()}, {os.cpu_count()} cores; {given.repeat} turns\n")
    print("\n".join(table(alone, several, idle, planned, given.ranks)))
    print(f"\nThe images differ by {different} of 255 levels at most.")
    if given.json:
        rows = {"alone": list(map(asdict, alone)), "ranks": list(map(asdict, several)), "idle_bytes": idle}
        given.json.write_text(json.dumps({**rows, "planned": planned, "size": given.size}, indent=2))


if __name__ == "__main__":
    main()
