"""Shared by every row of the soak: a folder with a list, the batch command, and the checks of its images."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from linfusion_cli.errors import LinfusionError
from linfusion_cli.output.png_reader import check

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = [sys.executable, str(ROOT / "tests" / "stand_in.py"), "cli"]
REAL = [sys.executable, "-m", "linfusion_cli"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
STEPS = 6  # of an image by the stand-in


@dataclass
class Row:
    """One row of the table: the goal, the fault, the runs, and what went wrong."""

    goal: str
    fault: str
    runs: int = 0
    wrong: list[str] = field(default_factory=list)
    result: str = ""


class Folder:
    """A list of prompts, its images, and the command that makes them."""

    def __init__(
        self, root: Path, prompts: list[str], *, step: float = 0.02, size: str = "64x64", command: list[str] = STAND_IN
    ) -> None:
        self.root, self.out, self.command, self.size = root, root / "out", command, size
        self.prompts = prompts
        (root / "faults").mkdir(parents=True, exist_ok=True)
        (root / "list.txt").write_text("\n".join(prompts) + "\n")
        self.environment = {**ENVIRONMENT, "STAND_IN_FAULTS": str(root / "faults"), "STAND_IN_STEP": str(step)}

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [
            *self.command,
            "batch",
            "list.txt",
            "-o",
            str(self.out),
            "--size",
            self.size,
            "--checkpoint",
            "0",
            *words,
        ]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=self.root, env=self.environment, stdout=pipe, stderr=pipe, text=True, errors="replace"
        )

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
    """Runs the same command until the batch is done, and checks the images."""
    folder.environment["STAND_IN_STEP"] = "0"
    code, err = folder.run()
    if code:
        row.wrong.append(f"exit {code}: {err.strip()[-200:]}")
    row.wrong += folder.invalid()
    images = folder.pixels()
    if images != whole:
        row.wrong.append(
            f"{len(set(whole) - set(images))} missing, {len(set(images) - set(whole))} extra, or other pixels"
        )
    row.wrong += [f"left over: {name}" for name in folder.leftovers()]


def broken(path: Path) -> bool:
    try:
        check(path)
    except LinfusionError:
        return True
    return False


def pixel_hash(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return hashlib.sha256(image.tobytes()).hexdigest()


def made_twice(folder: Folder) -> list[str]:
    """What its journal says of images that were finished more than once."""
    journal = (folder.out / ".linfusion" / "journal.jsonl").read_text().splitlines()
    done = [json.loads(line)["id"] for line in journal if '"done"' in line]
    return [f"{len(done) - len(set(done))} images were made twice"] if len(done) != len(set(done)) else []
