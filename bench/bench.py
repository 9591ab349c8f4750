"""Measures the numbers of the README, each size in a process of its own, and prints the table.

    python bench/bench.py [--long] [--only NAME]

Time is the wall clock of the whole command, memory the operating system's peak of the whole process.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

BUDGETS = [
    ("1024x1024", "700MB"),
    ("1536x1024", "2GB"),
    ("2048x2048", "800MB"),
    ("2048x2048", "1GB"),
    ("2048x1024", "4GB"),
    ("4096x2048", "800MB"),
]
LONG_BUDGETS = [("4096x4096", "2GB"), ("4096x4096", "8GB"), ("8192x8192", "2GB"), ("16384x8192", "2GB")]
PROMPT = "purple mountains at dusk, full moon, by a lake"


@dataclass(frozen=True)
class Measured:
    """One command: its wall clock in seconds, and its peak memory in bytes."""

    seconds: float
    peak_bytes: int


def run(*arguments: str) -> Measured:
    """Runs a command to its end, and reads time and peak memory from the operating system."""
    started = time.monotonic()
    process = subprocess.Popen([sys.executable, "-m", "linfusion_cli", *arguments], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"linfusion {' '.join(arguments)}: exit code {process.returncode}")
    scale = 1 if sys.platform == "darwin" else 1024
    return Measured(time.monotonic() - started, usage.ru_maxrss * scale)


def image(size: str, *more: str) -> Measured:
    with tempfile.TemporaryDirectory() as folder:
        output = str(Path(folder) / "image.png")
        return run("generate", PROMPT, "--seed", "12", "--size", size, "--quiet", "--output", output, *more)


def sizes(names: list[str]) -> None:
    """Time, memory and time per pixel by size; linear attention makes the last column flat."""
    print("| size | time | peak memory | time per megapixel |\n|---|---|---|---|")
    for name in names:
        width, height = map(int, name.split("x"))
        measured = image(name)
        print(
            f"| {name} | {measured.seconds:.0f} s | {measured.peak_bytes / 1e9:.2f} GB "
            f"| {measured.seconds / (width * height / 1e6):.2f} s |",
            flush=True,
        )


def budgets(cases: list[tuple[str, str]], *more: str) -> None:
    """The peak that the plan predicts within a budget, against the operating system's peak of the whole process.

    cases: size and `--max-memory` of each; more: options of every command
    """
    print("\n| size | --max-memory | planned peak | measured peak | planned / measured | time | time per megapixel |")
    print("|---|---|---|---|---|---|---|")
    for name, budget in cases:
        width, height = map(int, name.split("x"))
        plan = json.loads(
            subprocess.check_output(
                [sys.executable, "-m", "linfusion_cli", "plan", "--size", name, "--max-memory", budget, "--json", *more]
            )
        )
        measured, planned = image(name, "--max-memory", budget, *more), plan["peak_bytes"]
        peaks = f"{planned / 1e9:.2f} GB | {measured.peak_bytes / 1e9:.2f} GB | {planned / measured.peak_bytes:.2f}"
        print(
            f"| {name} | {budget} | {peaks} | {measured.seconds:.0f} s "
            f"| {measured.seconds / (width * height / 1e6):.2f} s |",
            flush=True,
        )


def attentions(names: list[str]) -> None:
    """Linear against softmax attention, the same command."""
    print("\n| size | linear | softmax | ratio |\n|---|---|---|---|")
    for name in names:
        linear, softmax = image(name), image(name, "--attention", "softmax")
        print(
            f"| {name} | {linear.seconds:.0f} s | {softmax.seconds:.0f} s | {softmax.seconds / linear.seconds:.2f} |",
            flush=True,
        )


def help_time() -> None:
    """The time to ask for help, median of five."""
    seconds = statistics.median(run("--help").seconds for _ in range(5))
    print(f"\nlinfusion --help: {seconds:.2f} s (median of 5)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also the sizes that take many minutes")
    parser.add_argument("--only", choices=["sizes", "budgets", "attention", "help"])
    chosen = parser.parse_args()
    if chosen.only in (None, "sizes"):
        sizes(
            ["1024x1024", "2048x2048", "3840x2160", "4096x4096"] + (["8192x4096", "8192x8192"] if chosen.long else [])
        )
    if chosen.only in (None, "budgets"):
        budgets(BUDGETS + (LONG_BUDGETS if chosen.long else []))
    if chosen.only in (None, "attention"):
        attentions(["512x512", "1024x1024"] + (["2048x2048"] if chosen.long else []))
    if chosen.only in (None, "help"):
        help_time()


if __name__ == "__main__":
    main()
