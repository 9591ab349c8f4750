"""Kills: of the whole batch, of its worker after every step, by SIGTERM and SIGINT, and of real renders."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

from bench.soak.ground import ENVIRONMENT, REAL, STEPS, Folder, Row, expected, finished, made_twice, pixel_hash
from linfusion_cli.batch.problem_report import counted


def kills(row: Row, root: Path, count: int) -> None:
    """SIGKILL of parent and worker at random moments of batches of 20; the images are checked after each."""
    prompts = [f"lake {i}" for i in range(20)]
    whole, chance = expected(root / "whole", prompts), random.Random(1)
    rounds = 0
    while row.runs < count:
        folder = Folder(root / f"round{rounds}", prompts, step=0.02)
        rounds += 1
        for _ in range(min(10, count - row.runs)):
            process = folder.start()
            time.sleep(chance.uniform(0.4, 2.2))
            if process.poll() is None:
                process.kill()
                row.runs += 1
            process.communicate()
            row.wrong += folder.invalid()
            if len(folder.pixels()) == len(prompts):
                break
        finished(row, folder, whole)
        row.wrong += made_twice(folder)
    row.result = f"{row.runs} kills in {counted(rounds, 'batch', 'batches')} of 20"


def child_kills(row: Row, root: Path, count: int) -> None:
    """SIGKILL of the child after each step in turn, and while it writes; the same parent goes on with the image."""
    prompts = [f"lake {i}" for i in range(20)]
    whole = expected(root / "whole", prompts)
    landed: Counter[int] = Counter()
    rounds = 0
    while row.runs < count:
        folder = Folder(root / f"round{rounds}", prompts, step=0.2)
        rounds += 1
        process = folder.start("--retry", str(2 * STEPS))  # an image is killed once after each of its steps
        killed = 0
        while row.runs < count and (victim := at_step(folder, process, 1 + row.runs % STEPS)):
            os.kill(victim, signal.SIGKILL)
            row.runs, killed = row.runs + 1, killed + 1
        _, told = process.communicate(timeout=600)
        went_on = [int(found) for found in re.findall(r"going on after step (\d+)", told)]
        landed.update(went_on)
        if process.returncode:
            row.wrong.append(f"exit {process.returncode}: {told[-200:]}")
        if len(went_on) != killed:
            row.wrong.append(f"{len(went_on)} of {killed} killed images were gone on with")
        if not killed:
            row.wrong.append(f"no step of batch {rounds} was seen")
            break
        finished(row, folder, whole)
        row.wrong += made_twice(folder)
    row.wrong += [
        f"no kill landed after step {step}" for step in range(1, STEPS + 1) if count >= STEPS and not landed[step]
    ]
    shares = ", ".join(f"{step}: {landed[step]}" for step in sorted(landed))
    row.result = (
        f"{row.runs} kills in {counted(rounds, 'batch', 'batches')} of 20; "
        f"each image gone on with from the step it had; landed after step {shares}"
    )


def at_step(folder: Folder, process: subprocess.Popen[str], step: int) -> int:
    """The child, stopped, as soon as the image in hand has kept this step; 0 if the batch has ended before.

    On a busy machine the child goes on while it is looked for: it is stopped, and then its step is looked at again.
    """
    while process.poll() is None:
        for path in folder.out.glob(".linfusion/*/step.safetensors"):
            if not is_at(folder, path, step) or not (found := child_of(process.pid)):
                continue
            with contextlib.suppress(ProcessLookupError):
                os.kill(found, signal.SIGSTOP)
                if is_at(folder, path, step):
                    return found
                os.kill(found, signal.SIGCONT)
        time.sleep(0.01)
    return 0


def is_at(folder: Folder, kept: Path, step: int) -> bool:
    """Whether an image has kept this step and is not whole yet."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        name = json.loads((kept.parent / "about.json").read_text())["picture"]
        return kept.read_bytes()[0] == step and not (folder.out / name).exists()
    return False


def child_of(pid: int) -> int:
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    return int(found[0]) if found else 0


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


def kept_states(root: Path) -> set[tuple[str, int]]:
    """Every checkpoint in a folder, and when it was written."""
    found = set()
    for path in root.glob(".linfusion/*/*.safetensors"):
        with contextlib.suppress(OSError):
            found.add((path.name, path.stat().st_mtime_ns))
    return found


def real_resume(row: Row, root: Path, count: int) -> None:
    """The built-in model, killed at random moments; the same command again until it is done."""
    words = [
        "generate",
        "hills at dawn",
        "--seed",
        "3",
        "--size",
        "512x384",
        "--checkpoint",
        "0",
        "--quiet",
        "--device",
        "cpu",
    ]
    root.mkdir(parents=True)
    subprocess.run([*REAL, *words, "-o", "whole.png"], cwd=root, env=ENVIRONMENT, check=True)
    whole, chance = pixel_hash(root / "whole.png"), random.Random(5)
    images = 0
    while row.runs < count:
        before, deadline = kept_states(root), time.monotonic() + 60
        process = subprocess.Popen([*REAL, *words, "-o", "x.png"], cwd=root, env=ENVIRONMENT, stderr=subprocess.PIPE)
        while process.poll() is None and kept_states(root) == before and time.monotonic() < deadline:
            time.sleep(0.01)  # to its first checkpoint: loading is no render
        time.sleep(chance.uniform(0.0, 1.5))
        if process.poll() is None:
            process.kill()
            row.runs += 1
        process.communicate()
        if (root / "x.png").exists():
            images += 1
            if pixel_hash(root / "x.png") != whole:
                row.wrong.append("other pixels than without interruption")
            (root / "x.png").unlink()
    subprocess.run([*REAL, *words, "-o", "x.png"], cwd=root, env=ENVIRONMENT, check=True)
    if pixel_hash(root / "x.png") != whole:
        row.wrong.append("other pixels than without interruption")
    row.result = (
        f"{row.runs} kills of renders with the built-in model, {counted(images + 1, 'image')} finished, "
        "with the pixels of one without interruption"
    )
