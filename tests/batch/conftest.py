"""A folder, a list, and the whole program around a stand-in for torch."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

STAND_IN = Path(__file__).parents[1] / "stand_in.py"


@dataclass
class Batch:
    """A list of prompts and the folder of its pictures."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / "out"

    def write(self, *lines: str) -> None:
        (self.root / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, str(STAND_IN), "cli", "batch", "list.txt", "-o", "out", "--size", "64x64", "--checkpoint", "0", *words]
        faults = self.root / "faults"
        faults.mkdir(exist_ok=True)
        environment = {**os.environ, "STAND_IN_FAULTS": str(faults), **self.environment}
        return subprocess.Popen(command, cwd=self.root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace")

    def run(self, *words: str) -> tuple[int, str, str]:
        process = self.start(*words)
        try:
            out, err = process.communicate(timeout=40)
        finally:
            process.kill()
        return process.returncode, out, err

    def pictures(self) -> dict[str, str]:
        """Name -> hash of the pixels."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.png")):
            with Image.open(path) as image:
                found[path.name] = hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
        return found

    def leftovers(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("*") if path.name.endswith(".part") or path.name.endswith(".safetensors"))


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)
