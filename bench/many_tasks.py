"""What a list of very many prompts over many workers asks of one shared folder, with a stand-in for the engine.

    python bench/many_tasks.py [--prompts 1000000] [--workers 1000] [--traced 8]

Everything but the engine is real: the list is read, tasks are made, every worker appends to its own journal through
Journal, and the next start reads all journals, or those of one part. No image is written for the many; what one image
asks of the file system is counted by strace (Linux) over batches of two lengths, so that what a batch asks once
cancels. Waits for the disk (fsync) are counted and left out of the many appends.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
STAND_IN = ROOT / "tests" / "stand_in.py"
CALL = re.compile(r"^(?:\[pid +\d+\] |\d+ +)?(\w+)\(")

from linfusion_cli.batch import journal as journal_module  # noqa: E402  # this tree's, not an installed one
from linfusion_cli.batch.journal import Journal  # noqa: E402
from linfusion_cli.batch.prompt_files import read_rows  # noqa: E402
from linfusion_cli.batch.runner import at_work  # noqa: E402
from linfusion_cli.batch.task_list import NAME_TEMPLATE, Task, make_tasks, shard_of  # noqa: E402


@contextmanager
def timed(what: str, rows: list[str]) -> Iterator[None]:
    started = time.monotonic()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    rows.append(f"| {what} | {time.monotonic() - started:.1f} s | {peak:.0f} MB so far |")


@contextmanager
def without_waits() -> Iterator[Counter[str]]:
    """Counts the waits for the disk, without waiting."""
    counts: Counter[str] = Counter()
    real = os.fsync
    journal_module.os.fsync = lambda descriptor: counts.update(["fsync"])  # type: ignore[attr-defined]
    try:
        yield counts
    finally:
        journal_module.os.fsync = real  # type: ignore[attr-defined]


def tasks_of(path: Path) -> list[Task]:
    problems: list[str] = []
    tasks = make_tasks(
        list(read_rows(str(path), problems, [])), {"size": "64x64"}, NAME_TEMPLATE, lambda ids: {}, problems
    )
    assert not problems, problems[:3]
    return tasks


def work(folder: Path, tasks: list[Task], workers: int) -> Counter[str]:
    """Every worker's part, as its journal sees it: each image is begun and done."""
    with without_waits() as counts:
        for index in range(workers):
            with Journal(folder, f"-{index}-of-{workers}", read=False) as kept:
                for task in shard_of(tasks, index, workers):
                    kept.add("begun", id=task.id, place=task.place)
                    numbers = {"size_bytes": 4_000_000, "modified_ns": time.time_ns(), "seconds": 61.25}
                    kept.add("done", id=task.id, name=task.name, **numbers, peak_bytes=1, device_peak_bytes=0, tries=1)
    return counts


def traced(images: int, folder: Path) -> Counter[str]:
    """System calls that name a file of the images' folder, or one that is open there, in a batch of so many images."""
    folder.mkdir()
    (folder / "list.txt").write_text("".join(f"lake {number}\n" for number in range(images)))
    command = ["strace", "-f", "-qq", "-y", "-e", "trace=%file,%desc", "-o", str(folder / "trace")]
    batch = [sys.executable, str(STAND_IN), "cli", "batch", "list.txt", "-o", "images", "--size", "64x64", "--quiet"]
    environment = {**os.environ, "STAND_IN_FAULTS": str(folder), "STAND_IN_STEP": "0"}
    subprocess.run([*command, *batch], cwd=folder, env=environment, check=True)
    calls: Counter[str] = Counter()
    with (folder / "trace").open(errors="replace") as lines:
        for line in lines:
            if f"{folder}/images" in line and (found := CALL.match(line)):
                calls[found[1]] += 1
    return calls


def of_one_image(many: int) -> dict[str, float]:
    """System calls of one image, by name."""
    if shutil.which("strace") is None:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        few, more = traced(many // 2, Path(folder, "few")), traced(many, Path(folder, "more"))
    each = {name: (more[name] - few[name]) / (many - many // 2) for name in more}
    return {name: round(value, 1) for name, value in sorted(each.items(), key=lambda item: -item[1]) if value > 0}


def main() -> None:
    parser = argparse.ArgumentParser(description="A list of very many prompts over many workers.")
    parser.add_argument("--prompts", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=1_000)
    parser.add_argument("--traced", type=int, default=8, help="images of the longer traced batch")
    given = parser.parse_args()
    rows: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        listed = folder / "list.txt"
        listed.write_text("".join(f"a lake of kind {number}\n" for number in range(given.prompts)))
        with timed(f"read the list ({listed.stat().st_size / 1e6:.0f} MB) and make its tasks", rows):
            tasks = tasks_of(listed)
        with timed(f"append 2 lines for each image to {given.workers:,} journals, without waits", rows):
            waits = work(folder, tasks, given.workers)
        journals = list((folder / ".linfusion").glob("journal*.jsonl"))
        size = sum(path.stat().st_size for path in journals)
        with timed(f"read {len(journals):,} journals ({size / 1e6:.0f} MB) at the next start of the whole list", rows):
            known = Journal(folder)
        with timed(f"read the journal of one part at its next start (`--shard 1/{given.workers}`)", rows):
            part = Journal(folder, f"-{1 % given.workers}-of-{given.workers}", other_parts=False)
        assert set(part.done) == {task.id for task in shard_of(tasks, 1, given.workers)}
        assert len(known.done) == len(tasks) == given.prompts
        with timed("look for each image once, none there", rows):
            assert all(known.state(task, thorough=False) == "missing" for task in tasks)
        with timed("take the lock of the folder", rows), at_work(known):
            pass
    print("| | time | memory |\n|---|---|---|", *rows, sep="\n")
    each = of_one_image(given.traced)
    print(f"\n{size / given.prompts:.0f} bytes of journal, {waits['fsync'] / given.prompts:g} waits for the disk")
    print(f"System calls in the folder an image: {sum(each.values()):.0f} ({json.dumps(each)[1:-1]})")


if __name__ == "__main__":
    main()
