"""`--ranks N` from the command line: the image of one process, a killed rank, too many ranks, another device."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from linfusion_cli.cli.app import main
from linfusion_cli.errors import RanksError, UsageError
from linfusion_cli.render_ranks import share
from linfusion_cli.system.device import find_machine

ROOT = Path(__file__).parents[1]
COMMAND = ["generate", "a lake", "--seed", "3", "--quiet", "--size"]


IMPATIENT = """
import sys
from linfusion_cli.cli.app import main
from linfusion_cli.planning import rank_timeout
rank_timeout.LEAST_SECONDS, rank_timeout.TIMES = 30.0, 0.0
sys.exit(main(sys.argv[1:]))
"""


def start(folder: Path, *words: str, program: tuple[str, ...] = ("-m", "linfusion_cli")) -> "subprocess.Popen[str]":
    environment = {"PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *program, *COMMAND, *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def at_work(process: "subprocess.Popen[str]") -> list[psutil.Process]:
    """The ranks that a command started, once one of them computes."""
    parent, children = psutil.Process(process.pid), list[psutil.Process]()
    deadline = time.monotonic() + 240
    while not any(child.cpu_times().user > 6 for child in children):
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()
        time.sleep(0.2)
        children = parent.children()
    return children


@pytest.mark.slow
def test_the_image_of_three_ranks_is_that_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def words(name: str) -> list[str]:
        return ["512x360", "-o", name, "--preview", f"{name}.jpg", "--preview-every", "1"]

    process = start(tmp_path, *words("three.png"), "--ranks", "3")
    _, told = process.communicate(timeout=240)
    assert (process.returncode, told) == (0, "")
    monkeypatch.chdir(tmp_path)
    assert main([*COMMAND, *words("one.png"), "--ranks", "1"]) == 0
    one, three = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("one.png", "three.png"))
    assert np.abs(one - three).max() <= 1
    one, three = (np.asarray(Image.open(tmp_path / name)).astype(int) for name in ("one.png.jpg", "three.png.jpg"))
    assert one.shape == three.shape == (270, 384, 3)
    assert np.abs(one - three).max() <= 8


@pytest.mark.slow
def test_a_killed_rank_ends_all_and_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, "2048x1024", "-o", "never.png", "--ranks", "3")
    children = at_work(process)
    children[1].kill()
    _, told = process.communicate(timeout=60)
    assert process.returncode == RanksError.exit_code
    assert "rank 2 ended without a word (SIGKILL)" in told
    assert not any(child.is_running() for child in children)
    assert not (tmp_path / "never.png").exists()


@pytest.mark.slow
def test_a_hung_rank_ends_all_and_is_named(tmp_path: Path) -> None:
    process = start(tmp_path, "2048x1024", "-o", "never.png", "--ranks", "3", program=("-c", IMPATIENT))
    children = at_work(process)
    children[1].suspend()
    _, told = process.communicate(timeout=120)
    assert process.returncode == RanksError.exit_code, told
    assert "rank 2 does not go on and was ended" in told
    assert "silent for 30 seconds" in told
    assert not any(child.is_running() for child in children)
    assert not (tmp_path / "never.png").exists()


@pytest.mark.slow
def test_ranks_without_rows_are_refused(tmp_path: Path) -> None:
    process = start(tmp_path, "128x8", "-o", "never.png", "--ranks", "4")
    _, told = process.communicate(timeout=120)
    assert process.returncode == UsageError.exit_code
    assert "--ranks 4: some would have no rows of 128x8 to compute. Nearest: 1" in told


def test_a_rank_plans_with_its_part_of_the_memory() -> None:
    machine = find_machine("cpu")
    assert share(machine, 3).free_bytes == machine.free_bytes // 3


def test_another_device_is_refused() -> None:
    from dataclasses import replace

    with pytest.raises(UsageError, match="ranks 2: ranks on one machine compute on its CPU, not on cuda:0"):
        share(replace(find_machine("cpu"), device="cuda:0"), 2)
