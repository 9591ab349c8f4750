"""A folder, a list, and the whole program around a stand-in for torch."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linfusion_cli.batch import runner
from linfusion_cli.batch.worker_process import WorkerProcess
from linfusion_cli.cli.app import main

PROMPTS = [f"lake number {i}" for i in range(4)]
STAND_IN = Path(__file__).parents[1] / "stand_in.py"


@dataclass
class Batch:
    """A list of prompts and the folder of its images."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        return self.root / "out"

    def write(self, *lines: str) -> None:
        (self.root / "list.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")

    def start(self, *words: str) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            str(STAND_IN),
            "cli",
            "batch",
            "list.txt",
            "-o",
            "out",
            "--size",
            "64x64",
            "--checkpoint",
            "0",
            *words,
        ]
        faults = self.root / "faults"
        faults.mkdir(exist_ok=True)
        environment = {**os.environ, "STAND_IN_FAULTS": str(faults), **self.environment}
        return subprocess.Popen(
            command,
            cwd=self.root,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
        )

    def run(self, *words: str) -> tuple[int, str, str]:
        """The same with this process as the parent: starting Python is most of what a short batch takes."""
        command = ["batch", "list.txt", "-o", "out", "--size", "64x64", "--checkpoint", "0", *words]
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            patch.chdir(self.root)
            for name, value in {"STAND_IN_FAULTS": str(self.root), **self.environment}.items():
                patch.setenv(name, value)
            patch.setattr(WorkerProcess, "command", (sys.executable, "-P", str(STAND_IN), "child"))
            patch.setattr(runner, "HANG_SECONDS", float(self.environment.get("STAND_IN_HANG_SECONDS", "60")))
            code = main(command)
        return code, out.getvalue(), err.getvalue()

    def images(self) -> dict[str, str]:
        """Name -> hash of the pixels."""
        found: dict[str, str] = {}
        for path in sorted(self.folder.glob("*.png")):
            with Image.open(path) as image:
                found[path.name] = hashlib.sha256(np.asarray(image).tobytes()).hexdigest()
        return found

    def leftovers(self) -> list[str]:
        return sorted(
            path.name
            for path in self.folder.rglob("*")
            if path.name.endswith(".part") or path.name.endswith(".safetensors")
        )


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return Batch(tmp_path)


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Batch:
    """A batch of PROMPTS that was made; to be copied, not to be touched."""
    made = Batch(tmp_path_factory.mktemp("made"))
    made.write(*PROMPTS)
    assert made.run()[0] == 0
    return made


@pytest.fixture
def finished(made_once: Batch, tmp_path: Path) -> Batch:
    """A batch of PROMPTS as its run left it, with the times of its files, which the journal knows."""
    return Batch(shutil.copytree(made_once.root, tmp_path / "finished"))
