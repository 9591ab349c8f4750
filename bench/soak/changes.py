"""Faults around a batch: several starts, failing workers, edited lists, damaged images, clocks that jump."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from bench.soak.ground import Folder, Row, expected, finished, made_twice
from linfusion_cli.batch.problem_report import counted

LIBFAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
JUMPS = ("+1d", "-1d", "+1h", "-1h", "+40d", "-400d", "+0")


def starts(row: Row, root: Path, count: int) -> None:
    """16 starts at the same instant."""
    prompts = [f"lake {i}" for i in range(4)]
    slowest = 0.0
    for i in range(count):
        folder = Folder(root / str(i), prompts, step=0.2)
        processes = [folder.start("--quiet") for _ in range(16)]
        codes = []
        for process in processes:
            process.communicate(timeout=300)
            codes.append(process.returncode)
        row.runs += 16
        if sorted(set(codes)) not in ([0, 75], [0]) or len(folder.pixels()) != 4:
            row.wrong.append(f"exit codes {sorted(codes)}, {len(folder.pixels())} images")
        begun = (folder.out / ".linfusion" / "journal.jsonl").read_text().count('"begun"')
        if begun != 4:
            row.wrong.append(f"{begun} begun for 4 images")
        slowest = max(slowest, codes.count(75))
    row.result = f"{count} times 16 starts; one worked, the others ended with 75; every image begun once"


def faults(row: Row, root: Path, kind: str, count: int) -> None:
    """A worker that dies by itself in the middle of an image."""
    prompts = [f"lake {i} FAULT:{kind}" for i in range(count)] + ["a calm lake"]
    folder = Folder(root, prompts)
    code, err = folder.run()
    row.runs = count
    if code or len(folder.pixels()) != len(prompts):
        row.wrong.append(f"exit {code}, {len(folder.pixels())} of {len(prompts)}: {err[-300:]}")
    row.wrong += folder.invalid()
    cause = next((line.split(": ", 2)[2] for line in err.splitlines() if line.startswith("retry:")), "-")
    row.result = f"{count} of {count} made at the second try; told as: {cause[:90]}"


def edited(row: Row, root: Path, count: int) -> None:
    """Lines inserted, deleted, moved and doubled between runs."""
    chance = random.Random(3)
    folder = Folder(root, ["lake 0"], step=0.0)
    lines, made = [f"lake {i}" for i in range(6)], dict[str, str]()
    for i in range(count):
        chance.shuffle(lines)
        lines.insert(chance.randrange(len(lines)), f"new {i}")
        if i % 3 == 2:
            lines.pop(chance.randrange(len(lines)))
        (folder.root / "list.txt").write_text("\n".join(lines) + "\n")
        code, err = folder.run()
        row.runs += 1
        now = folder.pixels()
        if code or not made.items() <= now.items():
            row.wrong.append(f"run {i}: exit {code}, an image was lost or changed: {err[-100:]}")
        made = now
    begun = (folder.out / ".linfusion" / "journal.jsonl").read_text().count('"begun"')
    if begun != len(made):
        row.wrong.append(f"{begun} begun for {len(made)} images")
    row.result = f"{count} edits, {len(made)} images, each begun once"


def damaged(row: Row, root: Path, count: int) -> None:
    """Images cut, flipped, emptied, without their end."""
    prompts, chance = [f"lake {i}" for i in range(10)], random.Random(4)
    whole = expected(root, prompts)
    folder = Folder(root, prompts, step=0.0)
    while row.runs < count:
        hurt = 0
        for path in sorted(folder.out.glob("*.png")):
            data = bytearray(path.read_bytes())
            kind = chance.choice(["cut", "flip", "end", "empty"])
            if kind == "flip":
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            path.write_bytes(
                {"cut": data[: chance.randrange(len(data))], "flip": data, "end": data[:-12], "empty": b""}[kind]
            )
            hurt, row.runs = hurt + 1, row.runs + 1
        code, _ = folder.run("--status")
        process = folder.start("--status", "--json")
        out, _ = process.communicate()
        found = out.count('"damaged"')
        if found != hurt or code != 1:
            row.wrong.append(f"{found} of {hurt} found, exit {code}")
        finished(row, folder, whole)
    row.result = f"{row.runs} of {row.runs} damaged files found and made again"


def clock_jumps(row: Row, root: Path, count: int) -> None:
    """The date jumps to and fro by hours and days while batches run; their time limits use a clock that never jumps."""
    library = next((path for path in LIBFAKETIME if path.exists()), None)
    if library is None:
        row.result = "not run: libfaketime is not installed (Debian: apt-get install libfaketime)"
        return
    prompts, chance = [f"lake {i}" for i in range(12)], random.Random(6)
    whole = expected(root / "whole", prompts)
    rounds = 0
    while row.runs < count:
        folder = Folder(root / f"round{rounds}", prompts, step=0.1)
        rounds += 1
        jump = folder.root / "jump"
        jump.write_text("+0")
        folder.environment |= {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(jump),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }
        process = folder.start("--json", "--max-minutes", "0.1")
        started = time.monotonic()
        while process.poll() is None and time.monotonic() - started < 60:
            time.sleep(chance.uniform(0.2, 0.8))
            jump.write_text(chance.choice(JUMPS))
            row.runs += 1
        seconds = time.monotonic() - started
        out, err = process.communicate(timeout=60)
        if process.returncode or not 6 <= seconds < 40:
            row.wrong.append(f"exit {process.returncode} after {seconds:.1f} s of 6: {err[-200:]}")
        told = [json.loads(line)["seconds"] for line in out.splitlines() if '"seconds"' in line]
        row.wrong += [f"it says that something took {took} s" for took in told if not 0 <= took < 60]
        finished(row, folder, whole)
        row.wrong += made_twice(folder)
    batches = counted(rounds, "batch", "batches")
    row.result = (
        f"{row.runs} jumps in {batches} of 12 with --max-minutes; "
        "each ended by its own clock, all images made once, no time below 0"
    )
