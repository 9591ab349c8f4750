"""Counts and times a batch by Ray on this machine: every image once, though workers are killed, and what Ray costs.

    python bench/ray_batch.py [--images 40] [--size 256x256] [--steps 8] [--json FILE]

Three runs of the same list with the built-in model, each into a folder of its own: two parts of the list by two
processes at once (`--shard`), which is the plain batch with two workers; two workers of Ray with one core each; and the
same with a worker killed twice on the way. Each run must leave every image once, whole. The overhead is the time of
Ray's run without kills over that of the two parts, from the start of the command to its end. Needs the package ray.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
ACTOR = "ray::RayWorker"


@dataclass(frozen=True)
class Measured:
    """One run. told: images that the batch says it made; files: whole images in its folder; twice: made more than once.

    retries: tries after a worker's death; killed: workers that were killed on the way
    """

    seconds: float
    told: int
    files: int
    twice: int
    retries: int
    killed: int = 0


def command(folder: Path, given: argparse.Namespace, *words: str) -> list[str]:
    batch = [sys.executable, "-m", "linfusion_cli", "batch", str(folder.parent / "list.txt"), "-o", str(folder)]
    return [*batch, "--size", given.size, "--steps", str(given.steps), "--keep-going", "--json", "--yes", *words]


def environment(cache: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}


def started(words: list[str], cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(words, env=environment(cache), stdout=subprocess.PIPE, text=True)


def counted(rows: list[dict[str, Any]], folder: Path, seconds: float, killed: int = 0) -> Measured:
    """Checks every file by `--verify --status`, which reads it whole."""
    made = Counter(row["id"] for row in rows if row["type"] == "made")
    status = [sys.executable, "-m", "linfusion_cli", "batch", str(folder.parent / "list.txt"), "-o", str(folder)]
    told = subprocess.run(
        [*status, "--status", "--verify", "--json"], env=environment(folder.parent), stdout=subprocess.PIPE, text=True
    )
    states = [json.loads(line) for line in told.stdout.splitlines()]
    return Measured(
        seconds,
        told=len(made),
        files=sum(row["type"] == "task" and row["state"] == "done" for row in states),
        twice=sum(count > 1 for count in made.values()),
        retries=sum(row["type"] == "retry" for row in rows),
        killed=killed,
    )


def in_parts(folder: Path, given: argparse.Namespace) -> Measured:
    began = time.monotonic()
    parts = [started(command(folder, given, "--shard", f"{part}/2"), folder.parent) for part in (1, 2)]
    told = [part.communicate()[0] for part in parts]
    seconds = time.monotonic() - began
    if codes := [part.returncode for part in parts if part.returncode]:
        sys.exit(f"a part ended with exit code {codes[0]}")
    return counted([json.loads(line) for text in told for line in text.splitlines()], folder, seconds)


def by_ray(folder: Path, given: argparse.Namespace, kills: int) -> Measured:
    """kills: workers that are killed, each after a third more of the images."""
    began = time.monotonic()
    batch = started(command(folder, given, "--on", "ray", "--cores", "1"), folder.parent)
    assert batch.stdout is not None
    rows: list[dict[str, Any]] = []
    made = killed = 0
    for line in batch.stdout:
        rows.append(json.loads(line))
        made += rows[-1]["type"] == "made"
        if killed < kills and made >= (killed + 1) * given.images // (kills + 1):
            killed += killed_one()
    code = batch.wait()
    seconds = time.monotonic() - began
    if code:
        sys.exit(f"the batch by Ray ended with exit code {code}")
    return counted(rows, folder, seconds, killed)


def killed_one() -> bool:
    """Kills a worker of Ray that this user runs; the benchmark starts no two batches by Ray at a time."""
    for process in psutil.process_iter(["cmdline", "uids"]):
        line, uids = process.info["cmdline"] or [""], process.info["uids"]
        if line[0].startswith(ACTOR) and (uids is None or uids.real == os.getuid()):
            process.send_signal(signal.SIGKILL)
            return True
    return False


def main() -> None:
    parser = argparse.ArgumentParser(description="A batch by Ray against the plain batch with two workers.")
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--json", type=Path, help="write the numbers to this file as well")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        (root / "list.txt").write_text("".join(f"a lake --seed {number}\n" for number in range(given.images)))
        first = [sys.executable, "-m", "linfusion_cli", "generate", "a lake", "--size", "256x256", "--quiet"]
        subprocess.run(
            [*first, "-o", str(root / "x.png")], env=environment(root), stdout=subprocess.DEVNULL, check=True
        )
        runs = {
            "two parts, no Ray": in_parts(root / "parts", given),
            "two workers of Ray": by_ray(root / "ray", given, 0),
            "the same, a worker killed twice": by_ray(root / "killed", given, 2),
        }
    print("| run | seconds | images told | whole images | made twice | retries | workers killed |")
    print("|---|---|---|---|---|---|---|")
    for what, run in runs.items():
        print(f"| {what} | {run.seconds:.1f} | {run.told} | {run.files} | {run.twice} | {run.retries} | {run.killed} |")
    plain, ray, _ = runs.values()
    print(f"\nOverhead of Ray without kills: {100 * (ray.seconds / plain.seconds - 1):.1f} % (to reach: 10 %)")
    if given.json:
        given.json.write_text(json.dumps({what: asdict(run) for what, run in runs.items()}, indent=2))
    if any((run.told, run.files, run.twice) != (given.images, given.images, 0) for run in runs.values()):
        sys.exit("images were lost or made twice")


if __name__ == "__main__":
    main()
