"""A batch of three images by the built-in model, killed after the first one: the same command makes the other two."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from bench.gpu.case import ROOT, Case, Setting

PROMPTS = ("purple mountains at dusk", "a mountain lake at dawn", "hills in the snow, stars")
SECONDS = 100.0


def cases(setting: Setting) -> Iterator[Case]:
    size = "128x128" if setting.quick else "1024x1024"
    folder = setting.scratch / "batch"
    folder.mkdir()
    (folder / "list.txt").write_text("\n".join(PROMPTS) + "\n")
    code, made, _ = _finished(_started(folder, "whole", setting, size))
    truth = _hashes(folder / "whole")
    yield Case("a batch of three", code == 0 and len(truth) == 3, {"exit code": code, "seconds of each": made})
    first = _killed_after_first(_started(folder, "out", setting, size))
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "out").glob("*.png")}
    yield Case("killed after the first image", len(before) in (1, 2), {"images": len(before), "lines seen": first})
    code, again, said = _finished(_started(folder, "out", setting, size))
    found = _hashes(folder / "out")
    kept = all((folder / "out" / name).stat().st_mtime_ns == time for name, time in before.items())
    left = [path.name for path in (folder / "out").rglob("*.part")]
    right = code == 0 and found == truth and kept and not left
    told = {"exit code": code, "made again": len(again), "images as without the kill": found == truth}
    told |= {"first ones untouched": kept, "left over": len(left)}
    yield Case("the same command again", right, told if right else {**told, "error": said[-300:]})


def _started(folder: Path, out: str, setting: Setting, size: str) -> subprocess.Popen[str]:
    words = ["batch", "list.txt", "-o", out, "--size", size, "--seed", "5", "--steps", "8", "--device", setting.device]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-m", "linfusion_cli", *words, "--dtype", "float32", "--json"],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def _finished(process: subprocess.Popen[str]) -> tuple[int, list[float], str]:
    """The exit code, the seconds of the images that were made, and what it said."""
    out, said = process.communicate(timeout=SECONDS)
    rows = [json.loads(line) for line in out.splitlines() if line.startswith("{")]
    return process.returncode, [round(row["seconds"], 2) for row in rows if row.get("type") == "made"], said


def _killed_after_first(process: subprocess.Popen[str]) -> int:
    """SIGKILL to parent and worker as soon as an image is told; how many lines came before."""
    assert process.stdout is not None
    lines = 0
    for line in process.stdout:
        lines += 1
        if line.startswith("{") and json.loads(line).get("type") == "made":
            break
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    return lines


def _hashes(folder: Path) -> dict[str, str]:
    """The pixels of each image, which also says that it can be read."""
    from PIL import Image

    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            found[path.name] = hashlib.sha256(image.tobytes()).hexdigest()
    return found
