"""Injects every fault of docs/reliability.md, counts what was lost, and prints the table.

    python -m bench.soak [--full] [--only R1,R6] [--real]

The engine is a stand-in (tests/stand_in.py) that makes an image in milliseconds; command line, process tree, locks,
journal, checkpoints and files are the real ones. --real adds kills of renders by the built-in model. A row fails, and
the command with it, if an image is lost, made twice or damaged, or if a person would have to step in.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.soak.changes import clock_jumps, damaged, edited, faults, starts
from bench.soak.disks import flipped, full_disk, injected
from bench.soak.fuzz import fuzz
from bench.soak.ground import Row
from bench.soak.kills import child_kills, kills, real_resume, signals
from bench.soak.power import power


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="200 kills and more: about an hour")
    parser.add_argument("--real", action="store_true", help="kills of the built-in model too")
    parser.add_argument("--only", default="", help="goals, like R1,R6")
    options = parser.parse_args()
    many = 10 if options.full else 1
    goals: list[tuple[str, str, Callable[[Row, Path], None]]] = [
        ("R1", "SIGKILL of the whole batch", lambda row, root: kills(row, root, 20 * many)),
        ("R10", "SIGKILL of the child after every step", lambda row, root: child_kills(row, root, 12 * many)),
        ("R2", "SIGKILL at a file call", lambda row, root: injected(row, root, "signal=SIGKILL")),
        ("R3", "a full disk", lambda row, root: full_disk(row, root, 8 * many)),
        ("R3", "ENOSPC at a file call", lambda row, root: injected(row, root, "error=ENOSPC")),
        ("R4", "EIO at a file call", lambda row, root: injected(row, root, "error=EIO")),
        ("R5", "power loss", lambda row, root: power(row, root, 20 * many)),
        ("R6", "16 starts at once", lambda row, root: starts(row, root, 2 * many)),
        ("R8", "memory runs out", lambda row, root: faults(row, root, "oom", 3)),
        ("R8", "a broken GPU", lambda row, root: faults(row, root, "cuda", 3)),
        ("R15", "weights cut while mapped (SIGBUS)", lambda row, root: faults(row, root, "sigbus", 3)),
        ("R15", "a flipped bit in a weight file", lambda row, root: flipped(row, root, 8 * many)),
        ("R12", "SIGTERM, SIGINT", lambda row, root: signals(row, root, 10 * many)),
        ("R16", "the clock jumps", lambda row, root: clock_jumps(row, root, 12 * many)),
        ("R13", "the list is edited", lambda row, root: edited(row, root, 10 * many)),
        ("R14", "images are damaged", lambda row, root: damaged(row, root, 40 * many)),
        ("R42", "any change in a file that is read", lambda row, root: fuzz(row, root, 26 if many == 1 else 60)),
    ]
    if options.real or options.full:
        goals.append(("R22", "SIGKILL of a real render", lambda row, root: real_resume(row, root, 8 * many)))
    rows: list[Row] = []
    print("| goal | fault | runs | wrong | result |\n|---|---|---|---|---|", flush=True)
    for goal, fault, test in goals:
        if options.only and goal not in options.only.split(","):
            continue
        row = Row(goal, fault)
        root = Path(tempfile.mkdtemp(prefix="soak-"))
        try:
            test(row, root / "work")
        finally:
            shutil.rmtree(root, ignore_errors=True)
        rows.append(row)
        print(f"| {goal} | {fault} | {row.runs} | {len(row.wrong)} | {row.result} |", flush=True)
        for text in row.wrong[:5]:
            print(f"    {goal}: {text}", file=sys.stderr, flush=True)
    return int(any(row.wrong for row in rows))


if __name__ == "__main__":
    sys.exit(main())
