"""Measures the overhead of a batch and prints the table; the machine should be idle.

    python bench/batch.py [--only images|journal|start|lists] [--images N]

Time is the wall clock of the whole command (in brackets its CPU time), memory the operating system's peak of its
process. "Pure" is the time of the images with the model loaded: their number times the median of all but the first.
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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

FINISHED, LINES, NOTES = 10_000, 100_000, 200
SIZE = "64x64"  # of lists from which no image is made
BASES = ("128x128", "512x512")  # the training size of the built-in model, and that of SD-v1.5


@dataclass(frozen=True)
class Measured:
    """One command: wall clock and CPU seconds, peak bytes of its own process, exit code, standard output."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    code: int
    out: str

    @property
    def times(self) -> str:
        return f"{self.seconds:.2f} s ({self.cpu_seconds:.2f} s)"


def run(folder: Path, *words: str) -> Measured:
    """Runs `linfusion batch` in a folder to its end."""
    started = time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "linfusion_cli", "batch", *words], cwd=folder, stdout=out, stderr=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        scale = 1 if sys.platform == "darwin" else 1024
        seconds, cpu_seconds = time.monotonic() - started, usage.ru_utime + usage.ru_stime
        return Measured(seconds, cpu_seconds, usage.ru_maxrss * scale, process.returncode, out.read())


def expect(measured: Measured, code: int = 0) -> Measured:
    if measured.code != code:
        sys.exit(f"exit code {measured.code} instead of {code}: {measured.out[-500:]}")
    return measured


def show(what: str, measured: str, asked: str) -> None:
    print(f"| {what} | {measured} | {asked} |", flush=True)


def made_seconds(folder: Path, count: int, size: str, *words: str) -> tuple[Measured, list[float]]:
    """A batch of images (by the built-in model if no words say otherwise), and the seconds of each."""
    (folder / "list.txt").write_text("".join(f"a mountain lake at dawn, view {i}\n" for i in range(count)))
    measured = expect(run(folder, "list.txt", "-o", f"out-{size}", "--size", size, "--json", "--device", "cpu", *words))
    rows = [json.loads(line) for line in measured.out.splitlines()]
    return measured, [row["seconds"] for row in rows if row["type"] == "made"]


def images(folder: Path, count: int) -> None:
    """The whole command against its images: the model is loaded once."""
    for size in BASES:
        whole(f"a batch of {count} at {size}", *made_seconds(folder, count, size))


def whole(what: str, measured: Measured, seconds: list[float]) -> None:
    """Prints the time of the whole batch against that of its images."""
    pure = len(seconds) * statistics.median(seconds[1:])
    show(what, f"{measured.seconds:.1f} s for images of {pure:.1f} s: {measured.seconds / pure:.3f} times", "1.1 times")


def journal(folder: Path, count: int) -> None:
    """The two synced lines of an image against an image of a small job."""
    from linfusion_cli.batch.journal import Journal

    del count
    _, seconds = made_seconds(folder, 3, BASES[0])
    with Journal(folder / f"out-{BASES[0]}") as notes:
        started = time.monotonic()
        for i in range(NOTES):
            notes.add("begun", id=f"{i:064x}", place="list.txt:1")
            notes.add(
                "done",
                id=f"{i:064x}",
                name="x.png",
                size_bytes=1,
                modified_ns=1,
                seconds=1.0,
                peak_bytes=1,
                device_peak_bytes=0,
                tries=1,
            )
        note = (time.monotonic() - started) / NOTES
    pure = statistics.median(seconds[1:])
    show("the journal", f"{1000 * note:.2f} ms an image of {pure:.2f} s: {100 * note / pure:.3f} %", "1 %")


def start(folder: Path, count: int) -> None:
    """The time that the command takes to find that every image of a list is made."""
    del count
    write_list(folder, FINISHED)
    finish(folder)
    runs = [expect(run(folder, "list.txt", "-o", "out", "--size", SIZE, "--quiet")) for _ in range(3)]
    median = sorted(runs, key=lambda measured: measured.seconds)[1]
    show(f"start with {FINISHED:,} finished images", f"{median.times}, peak {median.peak_bytes / 1e6:.0f} MB", "3 s")


def write_list(folder: Path, count: int, *more: str) -> None:
    words = ("a mountain lake", "hills", "a forest", "a river in the snow", "the moon over a market")
    lines = [f"{words[i % len(words)]} at dawn, drawn by hand, view number {i}" for i in range(count)]
    (folder / "list.txt").write_text("\n".join([*lines, *more]) + "\n")


def finish(folder: Path) -> None:
    """Writes the images and the journal that a run of write_list() would have left."""
    import numpy as np

    from linfusion_cli.batch.runner import at_work
    from linfusion_cli.cli.batch import _tasks
    from linfusion_cli.geometry import Size
    from linfusion_cli.output.metadata import KEYWORD
    from linfusion_cli.output.png_writer import PngWriter

    os.chdir(folder)
    out = folder / "out"
    out.mkdir()
    journal, tasks = _tasks(["list.txt"], {"size": SIZE}, "{slug}-{seed}-{id}", out, (0, 1))
    pixels = np.zeros((64, 64, 3), np.uint8)
    with at_work(journal):
        for task in tasks:
            record = {
                "id": task.id,
                "prompt": task.prompt,
                "preset": "landscape",
                "seed": task.seed,
                "width": 64,
                "height": 64,
            }
            with (
                (out / task.name).open("wb") as file,
                PngWriter(file, Size(64, 64), {KEYWORD: json.dumps(record)}) as png,
            ):
                png.write_rows(pixels)
            journal.add_done(task, task.name)


def lists(folder: Path, count: int) -> None:
    """A long list is read, expanded and checked: once shown whole, once refused for its last line."""
    del count
    write_list(folder, LINES)
    shown = expect(run(folder, "list.txt", "-o", "out", "--size", SIZE, "--dry-run"))
    show(f"{LINES:,} lines, all shown (--dry-run)", f"{shown.times}, peak {shown.peak_bytes / 1e6:.0f} MB", "")
    write_list(folder, LINES, "a lake --sede 3")
    refused = expect(run(folder, "list.txt", "-o", "out", "--size", SIZE), code=2)
    show(
        f"{LINES:,} lines, the last one wrong",
        f"{refused.times}, peak {refused.peak_bytes / 1e6:.0f} MB",
        "5 s, 500 MB",
    )
    with (folder / "list.txt").open("w") as file:
        file.writelines(f'view {i} --seed {i} --steps {5 + i % 3} --negative "people, cars"\n' for i in range(LINES))
        file.write("a lake --sede 3\n")
    flagged = expect(run(folder, "list.txt", "-o", "out", "--size", SIZE), code=2)
    show(
        f"{LINES:,} lines with three flags each, the last one wrong",
        f"{flagged.times}, peak {flagged.peak_bytes / 1e6:.0f} MB",
        "5 s, 500 MB",
    )


def main() -> None:
    measures: dict[str, Callable[[Path, int], None]] = {
        "images": images,
        "journal": journal,
        "start": start,
        "lists": lists,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=list(measures))
    parser.add_argument(
        "--images", type=int, default=20, metavar="N", help="of the batch that is measured against its images"
    )
    chosen = parser.parse_args()
    print("| what | measured | asked |\n|---|---|---|", flush=True)
    for name, measure in measures.items():
        if chosen.only in (None, name):
            with tempfile.TemporaryDirectory() as folder:
                measure(Path(folder), chosen.images)


if __name__ == "__main__":
    main()
