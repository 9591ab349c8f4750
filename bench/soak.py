"""Injects every fault of docs/reliability.md, counts what was lost, and prints the table.

    python bench/soak.py [--full] [--only R1,R6] [--real]

The engine is a stand-in (tests/stand_in.py) that makes a picture in milliseconds; command line, process tree, locks,
journal, checkpoints and files are the real ones. --real adds kills of renders by the built-in model. A row fails, and so
does the command, if anything is lost, doubled, damaged, or needs a hand.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = str(ROOT)

from linfusion_cli.errors import LinfusionError  # noqa: E402
from linfusion_cli.output.png import check  # noqa: E402

STAND_IN = [sys.executable, str(ROOT / "tests" / "stand_in.py"), "cli"]
REAL = [sys.executable, "-m", "linfusion_cli"]


@dataclass
class Row:
    """What a goal asks, what was done to it, and what went wrong."""

    goal: str
    fault: str
    runs: int = 0
    wrong: list[str] = field(default_factory=list)
    result: str = ""


class Folder:
    """A list of prompts, its pictures, and the command that makes them."""

    def __init__(self, root: Path, prompts: list[str], *, step: float = 0.02, size: str = "64x64", command: list[str] = STAND_IN) -> None:
        self.root, self.out, self.command, self.size = root, root / "out", command, size
        self.prompts = prompts
        (root / "faults").mkdir(parents=True, exist_ok=True)
        (root / "list.txt").write_text("\n".join(prompts) + "\n")
        self.environment = {**os.environ, "STAND_IN_FAULTS": str(root / "faults"), "STAND_IN_STEP": str(step)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [*self.command, "batch", "list.txt", "-o", str(self.out), "--size", self.size, "--checkpoint", "0", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=self.root, env=self.environment, stdout=pipe, stderr=pipe, text=True, errors="replace")

    def run(self, *words: str) -> tuple[int, str]:
        process = self.start(*words)
        _, err = process.communicate(timeout=600)
        return process.returncode, err

    def pixels(self) -> dict[str, str]:
        from PIL import Image

        found = {}
        for path in sorted(self.out.glob("*.png")):
            with Image.open(path) as image:
                found[path.name] = hashlib.sha256(image.tobytes()).hexdigest()
        return found

    def invalid(self) -> list[str]:
        wrong = []
        for path in self.out.glob("*.png"):
            try:
                check(path)
            except LinfusionError as error:
                wrong.append(str(error))
        return wrong

    def leftovers(self) -> list[str]:
        return [path.name for path in self.out.rglob("*") if path.suffix in (".part", ".safetensors")]


def expected(root: Path, prompts: list[str], **options: object) -> dict[str, str]:
    folder = Folder(root, prompts, **options)  # type: ignore[arg-type]
    folder.environment["STAND_IN_STEP"] = "0"
    code, err = folder.run()
    assert code == 0, err
    return folder.pixels()


def finished(row: Row, folder: Folder, whole: dict[str, str]) -> None:
    """Runs the same command until nothing is left, and compares."""
    folder.environment["STAND_IN_STEP"] = "0"
    code, err = folder.run()
    if code:
        row.wrong.append(f"exit {code}: {err.strip()[-200:]}")
    row.wrong += folder.invalid()
    pictures = folder.pixels()
    if pictures != whole:
        row.wrong.append(f"{len(set(whole) - set(pictures))} missing, {len(set(pictures) - set(whole))} extra, or other pixels")
    row.wrong += [f"left over: {name}" for name in folder.leftovers()]


def kills(row: Row, root: Path, count: int, *, child: bool) -> None:
    """SIGKILL at random moments of 20-job batches, of the parent or of the child; pictures checked after each."""
    prompts = [f"lake {i}" for i in range(20)]
    whole, chance = expected(root / "whole", prompts), random.Random(1)
    resumed = rounds = 0
    while row.runs < count:
        folder = Folder(root / f"round{rounds}", prompts, step=0.05 if child else 0.02)
        rounds += 1
        for _ in range(10):
            if row.runs >= count:
                break
            process = folder.start("--retry", "50")
            if child:  # at a moment when a picture is being made
                _wait_for(folder.out / ".linfusion" / "journal.jsonl", "begun", process)
            time.sleep(chance.uniform(0.0, 4.0) if child else chance.uniform(0.4, 2.2))
            if process.poll() is None:
                victim = process.pid
                if child:
                    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False).stdout.split()
                    victim = int(found[0]) if found else 0
                if victim:
                    os.kill(victim, signal.SIGKILL)
                    row.runs += 1
            if not child:
                process.communicate()
            else:
                _, err = process.communicate(timeout=300)
                resumed += err.count("going on after step")
                if process.returncode:
                    row.wrong.append(f"exit {process.returncode}: {err[-200:]}")
            row.wrong += folder.invalid()
            if not child and len(folder.pixels()) == len(prompts):
                break
            if child:
                break
        finished(row, folder, whole)
        journal = (folder.out / ".linfusion" / "journal.jsonl").read_text().splitlines()
        done = [json.loads(line)["id"] for line in journal if '"done"' in line]
        if len(done) != len(set(done)):
            row.wrong.append(f"{len(done) - len(set(done))} pictures were made twice")
    row.result = f"{row.runs} kills in {rounds} batches of 20" + (f", {resumed} pictures gone on with in the same run" if child else "")


def _wait_for(path: Path, text: str, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not (path.exists() and text in path.read_text()):
        time.sleep(0.02)


def injected(row: Row, root: Path, fault: str) -> None:
    """strace makes every N-th call of one kind fail, or kills at it: the child writes one picture."""
    picture = [*STAND_IN, "generate", "a lake", "--seed", "1", "--size", "64x64", "--checkpoint", "0", "--overwrite", "-o", "x.png", "--quiet"]
    environment = {**os.environ, "STAND_IN_STEP": "0", "STAND_IN_FAULTS": str(root)}
    root.mkdir(parents=True)
    subprocess.run(picture, cwd=root, env=environment, check=True)
    new = hashlib.sha256((root / "x.png").read_bytes()).hexdigest()
    for call in ("fsync", "rename", "linkat", "link", "unlink", "ftruncate", "fallocate"):
        for number in range(1, 30):
            if not strace(row, root, picture, environment, call, number, fault, new):
                break
    row.result = f"{row.runs} calls hit, each in a run of its own; the file was the old or the new one, whole"


def strace(row: Row, root: Path, picture: list[str], environment: dict[str, str], call: str, number: int, fault: str, new: str) -> bool:
    (root / "x.png").write_bytes(b"old")
    log = root / "strace.log"
    inject = f"inject={call}:{fault}:when={number}"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", inject, *picture], cwd=root, env=environment, capture_output=True, check=False
    )
    hit = "INJECTED" in log.read_text() or "SIGKILL" in log.read_text()
    if not hit:
        return False
    row.runs += 1
    data = (root / "x.png").read_bytes()
    is_new = data[:4] == b"\x89PNG" and not _broken(root / "x.png")
    if data != b"old" and not is_new:
        row.wrong.append(f"{call} {number}: torn")
    if done.returncode == 0 and data == b"old":
        row.wrong.append(f"{call} {number}: exit 0 without a picture")
    subprocess.run(picture, cwd=root, env=environment, check=False, capture_output=True)
    if _broken(root / "x.png") or list(root.rglob("*.part")):
        row.wrong.append(f"{call} {number}: the next run left {[path.name for path in root.rglob('*.part')]}")
    return True


def _broken(path: Path) -> bool:
    try:
        check(path)
    except LinfusionError:
        return True
    return False


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
            row.wrong.append(f"exit codes {sorted(codes)}, {len(folder.pixels())} pictures")
        begun = (folder.out / ".linfusion" / "journal.jsonl").read_text().count('"begun"')
        if begun != 4:
            row.wrong.append(f"{begun} begun for 4 pictures")
        slowest = max(slowest, codes.count(75))
    row.result = f"{count} times 16 starts; one worked, the others ended with 75; every picture begun once"


def signals(row: Row, root: Path, count: int) -> None:
    """SIGTERM and SIGINT at random moments."""
    prompts = [f"lake {i}" for i in range(20)]
    whole, chance = expected(root / "whole", prompts), random.Random(2)
    folder, longest = Folder(root / "0", prompts, step=0.05), 0.0
    for i in range(count):
        if len(folder.pixels()) == len(prompts):
            finished(row, folder, whole)
            folder = Folder(root / str(i + 1), prompts, step=0.05)
        process = folder.start()
        time.sleep(chance.uniform(0.8, 3.0))
        number, code = chance.choice([(signal.SIGTERM, 143), (signal.SIGINT, 130)])
        if process.poll() is None:
            process.send_signal(number)
            asked = time.monotonic()
            _, err = process.communicate(timeout=60)
            longest = max(longest, time.monotonic() - asked)
            row.runs += 1
            if process.returncode not in (code, 0, -number):  # -number: it came while Python itself was starting
                row.wrong.append(f"exit {process.returncode} after {number}: {err[-200:]}")
        else:
            process.communicate()
        row.wrong += folder.invalid()
    finished(row, folder, whole)
    row.result = f"{row.runs} signals; ended within {longest:.1f} s; exit 143 or 130"


def full_disk(row: Row, root: Path, count: int) -> None:
    """Really full small file systems, from nothing to more than enough."""
    prompts = [f"lake {i}" for i in range(3)]
    for i in range(count):
        kib = 64 + i * 96
        script = (
            f'mount -t tmpfs -o size={kib}k tmpfs out && {" ".join(STAND_IN)} batch list.txt -o out --size 192x192 2>err; echo "code $?" >code;'
            'ls -A out > ls; cp out/*.png . 2>/dev/null; find out -name "*.part" > parts'
        )
        folder = Folder(root / str(i), prompts, step=0.0)
        folder.out.mkdir()
        done = subprocess.run(["unshare", "-Urm", "bash", "-c", script], cwd=folder.root, env=folder.environment, capture_output=True, text=True, check=False)
        if not (folder.root / "code").exists():
            row.result = f"not run: {done.stderr.strip()[-80:]}"
            return
        row.runs += 1
        code = (folder.root / "code").read_text().split()[1]
        copies = list(folder.root.glob("*.png"))
        if any(_broken(path) for path in copies) or (folder.root / "parts").read_text():
            row.wrong.append(f"{kib} KiB: a torn file or a leftover")
        if code not in ("0", "74") or (code == "0") != (len(copies) == 3):
            row.wrong.append(f"{kib} KiB: exit {code} with {len(copies)} pictures: {(folder.root / 'err').read_text()[-150:]}")
    row.result = f"{row.runs} tmpfs of 64 KiB and up: exit 74 or all done, no torn file, no leftover"


def faults(row: Row, root: Path, kind: str, count: int) -> None:
    """A child that dies in the middle of a picture, on its own."""
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
            row.wrong.append(f"run {i}: exit {code}, a picture was lost or changed: {err[-100:]}")
        made = now
    begun = (folder.out / ".linfusion" / "journal.jsonl").read_text().count('"begun"')
    if begun != len(made):
        row.wrong.append(f"{begun} begun for {len(made)} pictures")
    row.result = f"{count} edits, {len(made)} pictures, each begun once"


def damaged(row: Row, root: Path, count: int) -> None:
    """Pictures cut, flipped, emptied, without their end."""
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
            path.write_bytes({"cut": data[: chance.randrange(len(data))], "flip": data, "end": data[:-12], "empty": b""}[kind])
            hurt, row.runs = hurt + 1, row.runs + 1
        code, _ = folder.run("--status")
        process = folder.start("--status", "--json")
        out, _ = process.communicate()
        found = out.count('"damaged"')
        if found != hurt or code != 1:
            row.wrong.append(f"{found} of {hurt} found, exit {code}")
        finished(row, folder, whole)
    row.result = f"{row.runs} of {row.runs} damaged files found and made again"


def real_resume(row: Row, root: Path, count: int) -> None:
    """The built-in model, killed at random moments; the same command again until it is done."""
    words = ["generate", "hills at dawn", "--seed", "3", "--size", "512x384", "--checkpoint", "0", "--quiet", "--device", "cpu"]
    root.mkdir(parents=True)
    subprocess.run([*REAL, *words, "-o", "whole.png"], cwd=root, check=True)
    whole, chance = _hash(root / "whole.png"), random.Random(5)
    pictures = 0
    while row.runs < count:
        process = subprocess.Popen([*REAL, *words, "-o", "x.png"], cwd=root, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 60
        while process.poll() is None and not list(root.glob(".linfusion/*/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)  # to the first checkpoint: loading is no render
        time.sleep(chance.uniform(0.0, 3.0))
        if process.poll() is None:
            process.kill()
            row.runs += 1
        process.communicate()
        if (root / "x.png").exists():
            pictures += 1
            if _hash(root / "x.png") != whole:
                row.wrong.append("other pixels than without interruption")
            (root / "x.png").unlink()
    subprocess.run([*REAL, *words, "-o", "x.png"], cwd=root, check=True)
    if _hash(root / "x.png") != whole:
        row.wrong.append("other pixels than without interruption")
    row.result = f"{row.runs} kills of renders with the built-in model, {pictures + 1} pictures finished, all with the same pixels"


def _hash(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="200 kills and more: about an hour")
    parser.add_argument("--real", action="store_true", help="kills of the built-in model too")
    parser.add_argument("--only", default="", help="goals, like R1,R6")
    options = parser.parse_args()
    many = 10 if options.full else 1
    goals: list[tuple[str, str, Callable[[Row, Path], None]]] = [
        ("R1", "SIGKILL of the whole batch", lambda row, root: kills(row, root, 20 * many, child=False)),
        ("R10", "SIGKILL of the child", lambda row, root: kills(row, root, 5 * many, child=True)),
        ("R2", "SIGKILL at a file call", lambda row, root: injected(row, root, "signal=SIGKILL")),
        ("R3", "a full disk", lambda row, root: full_disk(row, root, 8 * many)),
        ("R3", "ENOSPC at a file call", lambda row, root: injected(row, root, "error=ENOSPC")),
        ("R4", "EIO at a file call", lambda row, root: injected(row, root, "error=EIO")),
        ("R6", "16 starts at once", lambda row, root: starts(row, root, 2 * many)),
        ("R8", "memory runs out", lambda row, root: faults(row, root, "oom", 3)),
        ("R8", "a broken GPU", lambda row, root: faults(row, root, "cuda", 3)),
        ("R15", "weights cut while mapped (SIGBUS)", lambda row, root: faults(row, root, "sigbus", 3)),
        ("R12", "SIGTERM, SIGINT", lambda row, root: signals(row, root, 10 * many)),
        ("R13", "the list is edited", lambda row, root: edited(row, root, 10 * many)),
        ("R14", "pictures are damaged", lambda row, root: damaged(row, root, 40 * many)),
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
