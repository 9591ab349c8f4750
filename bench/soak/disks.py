"""File calls that fail or kill, one by one, and file systems that are full."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from pathlib import Path

from bench.soak.ground import ENVIRONMENT, REAL, STAND_IN, Folder, Row, broken
from linfusion_cli.models import builtin_folder


def injected(row: Row, root: Path, fault: str) -> None:
    """strace makes every N-th call of one kind fail, or kills at it: the child writes one image."""
    image = [
        *STAND_IN,
        "generate",
        "a lake",
        "--seed",
        "1",
        "--size",
        "64x64",
        "--checkpoint",
        "0",
        "--overwrite",
        "-o",
        "x.png",
        "--quiet",
    ]
    environment = {**ENVIRONMENT, "STAND_IN_STEP": "0", "STAND_IN_FAULTS": str(root)}
    root.mkdir(parents=True)
    subprocess.run(image, cwd=root, env=environment, check=True)
    new = hashlib.sha256((root / "x.png").read_bytes()).hexdigest()
    for call in ("fsync", "rename", "linkat", "link", "unlink", "ftruncate", "fallocate"):
        for number in range(1, 30):
            if not strace(row, root, image, environment, call, number, fault, new):
                break
    row.result = f"{row.runs} calls hit, each in a run of its own; the file was the old or the new one, whole"


def strace(
    row: Row, root: Path, image: list[str], environment: dict[str, str], call: str, number: int, fault: str, new: str
) -> bool:
    (root / "x.png").write_bytes(b"old")
    log = root / "strace.log"
    inject = f"inject={call}:{fault}:when={number}"
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", str(log), "-e", f"trace={call}", "-e", inject, *image],
        cwd=root,
        env=environment,
        capture_output=True,
        check=False,
    )
    hit = "INJECTED" in log.read_text() or "SIGKILL" in log.read_text()
    if not hit:
        return False
    row.runs += 1
    data = (root / "x.png").read_bytes()
    is_new = data[:4] == b"\x89PNG" and not broken(root / "x.png")
    if data != b"old" and not is_new:
        row.wrong.append(f"{call} {number}: torn")
    if done.returncode == 0 and data == b"old":
        row.wrong.append(f"{call} {number}: exit 0 without an image")
    subprocess.run(image, cwd=root, env=environment, check=False, capture_output=True)
    if broken(root / "x.png") or list(root.rglob("*.part")):
        row.wrong.append(f"{call} {number}: the next run left {[path.name for path in root.rglob('*.part')]}")
    return True


def full_disk(row: Row, root: Path, count: int) -> None:
    """Small file systems, with space from none to more than enough."""
    prompts = [f"lake {i}" for i in range(3)]
    for i in range(count):
        kib = 64 + i * 96
        script = (
            f"mount -t tmpfs -o size={kib}k tmpfs out && "
            f'{" ".join(STAND_IN)} batch list.txt -o out --size 192x192 2>err; echo "code $?" >code;'
            'ls -A out > ls; cp out/*.png . 2>/dev/null; find out -name "*.part" > parts'
        )
        folder = Folder(root / str(i), prompts, step=0.0)
        folder.out.mkdir()
        done = subprocess.run(
            ["unshare", "-Urm", "bash", "-c", script],
            cwd=folder.root,
            env=folder.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if not (folder.root / "code").exists():
            row.result = f"not run: {done.stderr.strip()[-80:]}"
            return
        row.runs += 1
        code = (folder.root / "code").read_text().split()[1]
        copies = list(folder.root.glob("*.png"))
        if any(broken(path) for path in copies) or (folder.root / "parts").read_text():
            row.wrong.append(f"{kib} KiB: a torn file or a leftover")
        if code not in ("0", "74") or (code == "0") != (len(copies) == 3):
            row.wrong.append(
                f"{kib} KiB: exit {code} with {len(copies)} images: {(folder.root / 'err').read_text()[-150:]}"
            )
    row.result = f"{row.runs} tmpfs of 64 KiB and up: exit 74 or all done, no torn file, no leftover"


def flipped(row: Row, root: Path, count: int) -> None:
    """One bit of a weight file, anywhere in the model: refused by name, before the image is begun."""
    folder, chance = builtin_folder("builtin:landscape"), random.Random(7)
    assert folder is not None
    model = shutil.copytree(folder, root / "model")
    environment = {**ENVIRONMENT, "XDG_CACHE_HOME": str(root / "cache")}
    command = [
        *REAL,
        "generate",
        "a lake",
        "--model",
        "model",
        "--linfusion",
        "model/linfusion",
        "--size",
        "64x64",
        "--device",
        "cpu",
        "-o",
        "x.png",
    ]
    paths = sorted(model.rglob("*.safetensors"))
    for i in range(count):
        path = paths[i % len(paths)]
        whole = path.read_bytes()
        data = bytearray(whole)
        data[chance.randrange(len(data) // 2, len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
        row.runs += 1
        if (
            done.returncode != 66
            or str(path.relative_to(root)) not in done.stderr
            or (root / "x.png").exists()
            or "stage 0 denoise" in done.stderr
        ):
            row.wrong.append(f"{path.name}: exit {done.returncode}: {done.stderr[-200:]}")
        path.write_bytes(whole)
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        row.wrong.append(f"the whole model: exit {done.returncode}: {done.stderr[-200:]}")
    row.result = (
        f"{row.runs} of {row.runs} refused before the first step with exit 66, the file named; the whole one is taken"
    )
