"""A list by two ranks: the images of one process, though a prompt fails, a rank is killed, and the batch is killed."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

from linfusion_cli.rank_process import BOARD

ROOT = Path(__file__).parents[2]
BAD = "a storm --max-memory 30MB"
PROMPTS = ("a lake", BAD, "a forest", "green hills")


def start(folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "linfusion_cli", "batch", "list.txt", "--size", "128x96", "--steps", "4", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder), "TMPDIR": str(folder)}
    return subprocess.Popen(
        [*command, "--keep-going", "--json"], cwd=folder, env=environment, stdout=subprocess.PIPE, text=True
    )


def rows_until(process: "subprocess.Popen[str]", kind: str) -> list[dict[str, Any]]:
    """What it tells, up to the first of a kind."""
    rows: list[dict[str, Any]] = []
    assert process.stdout is not None
    for line in process.stdout:
        rows.append(json.loads(line))
        if rows[-1]["type"] == kind:
            return rows
    raise AssertionError(rows)


def descendants(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The process that makes images, and the rank that it started."""
    return psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow
def test_three_of_four_prompts_are_made_as_by_one_process(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("\n".join(PROMPTS) + "\n")
    killed = start(tmp_path, "-o", "two", "--ranks", "2")
    rows_until(killed, "made")
    left = descendants(killed)
    assert len(left) == 2
    killed.kill()
    killed.communicate()
    psutil.wait_procs(left, timeout=60)
    assert not any(process.is_running() for process in left), "no rank outlives the batch"

    again = start(tmp_path, "-o", "two", "--devices", "cpu,cpu")
    rows_until(again, "begun")
    while not any(tmp_path.glob(f"linfusion-ranks-*/{BOARD}")) or len(descendants(again)) < 2:
        assert again.poll() is None
        time.sleep(0.05)
    descendants(again)[1].kill()
    out, _ = again.communicate(timeout=240)
    rows = [json.loads(line) for line in out.splitlines()]
    assert again.returncode == 1
    (retry,) = (row for row in rows if row["type"] == "retry")
    assert "rank 1 ended without a word (SIGKILL)" in retry["text"]
    (failed,) = (row for row in rows if row["type"] == "failed")
    assert failed["exit_code"] == 4
    assert len(list((tmp_path / "two").glob("*.png"))) == 3

    one = start(tmp_path, "-o", "one")
    one.communicate(timeout=240)
    names = sorted(path.name for path in (tmp_path / "one").glob("*.png"))
    assert names == sorted(path.name for path in (tmp_path / "two").glob("*.png"))
    for name in names:
        a, b = (np.asarray(Image.open(tmp_path / side / name)).astype(int) for side in ("one", "two"))
        assert np.abs(a - b).max() <= 1
