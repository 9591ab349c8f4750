"""Mutations of every file that the program reads, by the tests that try a few of them in the suite."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench.soak.ground import ENVIRONMENT, ROOT, Row

TEST = "tests/scenarios/test_fuzzed_readers.py"


def fuzz(row: Row, root: Path, times: int) -> None:
    """`times` mutations of each file (of small checkpoints more); what ends in no exit code of its own is wrong."""
    root.mkdir(parents=True)
    counts = root / "counts"
    environment = {
        **ENVIRONMENT,
        "LINFUSION_FUZZ": str(times),
        "LINFUSION_FUZZ_COUNTS": str(counts),
        "XDG_CACHE_HOME": str(root / "cache"),
    }
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", TEST]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    ends = Counter[str]()
    for line in counts.read_text().splitlines() if counts.exists() else []:
        ends.update(json.loads(line))
    row.runs = ends.total()
    if done.returncode:
        faults = [line.removeprefix("E").strip() for line in done.stdout.splitlines() if line.startswith("E ")]
        row.wrong += faults or [f"pytest ended with {done.returncode}: {done.stderr[-300:]}"]
    row.result = ", ".join(f"{end}: {number}" for end, number in sorted(ends.items()))
