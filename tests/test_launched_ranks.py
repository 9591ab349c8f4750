"""Processes of a launcher: what their environment says, one image by two of them, and what is refused."""

import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from PIL import Image

from linfusion_cli.cli.app import main
from linfusion_cli.errors import UsageError
from linfusion_cli.launched_ranks import Launch
from linfusion_cli.render_ranks import shared_machine
from linfusion_cli.system.device import find_machine

ROOT = Path(__file__).parents[1]
SECOND = {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}


def test_ranks_of_one_machine_and_of_two() -> None:
    alone = Launch.of(SECOND)
    assert alone == Launch(rank=1, size=4, local_rank=1, local_size=4, address="host:29500")
    two = Launch.of({**SECOND, "RANK": "3", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"})
    assert two == Launch(rank=3, size=4, local_rank=1, local_size=2, address="host:29500")


@pytest.mark.parametrize("missing", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_half_of_a_launchers_environment_is_none(missing: str) -> None:
    assert Launch.of({name: value for name, value in SECOND.items() if name != missing}) is None


def test_one_process_is_none() -> None:
    assert Launch.of({**SECOND, "RANK": "0", "WORLD_SIZE": "1"}) is None


@pytest.mark.parametrize("odd", [{"RANK": "4"}, {"RANK": "-1"}, {"RANK": "one"}, {"LOCAL_WORLD_SIZE": "5"}])
def test_odd_numbers_are_refused(odd: dict[str, str]) -> None:
    with pytest.raises(UsageError):
        Launch.of({**SECOND, **odd})


def test_the_memory_of_a_machine_is_shared_by_the_ranks_on_it() -> None:
    machine = find_machine("cpu")
    assert shared_machine(machine, 2).free_bytes == machine.free_bytes // 2
    launch = Launch(rank=2, size=4, local_rank=0, local_size=2, address="host:1")
    assert launch.machine("cpu").free_bytes == pytest.approx(machine.free_bytes / 2, rel=0.05)


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return int(bound.getsockname()[1])


OTHER_VERSION = (
    "import sys, linfusion_cli; linfusion_cli.__version__ = '0.0.1'; from linfusion_cli.cli.app import main; "
)
PROGRAM = ("-m", "linfusion_cli")


def start(
    folder: Path, port: int, rank: int, *words: str, size: int = 2, program: tuple[str, ...] = PROGRAM
) -> "subprocess.Popen[str]":
    environment = {
        "PYTHONPATH": str(ROOT),
        "PATH": os.environ["PATH"],
        "XDG_CACHE_HOME": str(folder),
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    command = [sys.executable, *program, *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.slow
def test_two_processes_make_the_image_of_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a seed, rank 0 draws one for both. Rank 1 prints and writes nothing, the log file neither."""
    words = ("generate", "a lake", "--size", "192x136", "--steps", "4", "-o", "two.png", "--log-file", "log")
    port = free_port()
    ranks = [start(tmp_path, port, rank, *words) for rank in range(2)]
    told = [rank.communicate(timeout=240) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], told
    assert told[0][0] == "two.png\n"
    assert told[1] == ("", "")
    assert (tmp_path / "log").read_text().count("made: two.png") == 1
    with Image.open(tmp_path / "two.png") as image:
        found = re.search(r"Seed: (\d+)", str(image.info["parameters"]))
        two = np.asarray(image).astype(int)
    assert found
    monkeypatch.chdir(tmp_path)
    assert main([*words[:6], "--seed", found[1], "-o", "one.png"]) == 0
    assert np.abs(np.asarray(Image.open(tmp_path / "one.png")).astype(int) - two).max() <= 1


@pytest.mark.slow
def test_a_list_by_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of its prompts fails; then nothing is left to do, and both end at once."""
    (tmp_path / "list.txt").write_text("a lake --seed 3\na storm --max-memory 30MB\na forest --seed 4\n")
    words = ("batch", "list.txt", "-o", "two", "--size", "128x96", "--steps", "3", "--name", "{seed}", "--keep-going")
    for limit in ("--limit", "9"), ("--limit", "1"):
        port = free_port()
        ranks = [start(tmp_path, port, rank, *words, *limit) for rank in range(2)]
        told = [rank.communicate(timeout=240) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [1, 0], told
        assert told[1] == ("", "")
    assert sorted(path.name for path in (tmp_path / "two").glob("*.png")) == ["3.png", "4.png"]
    monkeypatch.chdir(tmp_path)
    assert main(["generate", "a lake", "--size", "128x96", "--steps", "3", "--seed", "3", "-o", "one.png"]) == 0
    one, two = (np.asarray(Image.open(path)).astype(int) for path in ("one.png", "two/3.png"))
    assert np.abs(one - two).max() <= 1


@pytest.mark.slow
def test_ranks_of_another_version_or_command_end_before_any_work(tmp_path: Path) -> None:
    words = ("generate", "a lake", "--size", "128x96", "--quiet", "-o")
    other = ("-c", f"{OTHER_VERSION}sys.exit(main(sys.argv[1:]))")
    cases = {
        "versions: rank 0 has": ((*words, "x.png"), other),
        "commands: rank 0 has": ((*words, "y.png"), PROGRAM),
    }
    for what, (second, program) in cases.items():
        port = free_port()
        ranks = [start(tmp_path, port, 0, *words, "x.png"), start(tmp_path, port, 1, *second, program=program)]
        told = [rank.communicate(timeout=240) for rank in ranks]
        assert [rank.returncode for rank in ranks] == [69, 69], told
        assert f"the ranks have different {what}" in told[0][1]
        assert not list(tmp_path.glob("*.png"))


@pytest.mark.long
def test_torchrun_starts_a_list_again_when_a_rank_dies(tmp_path: Path) -> None:
    """Its store outlives the processes, with the addresses of those that died."""
    (tmp_path / "list.txt").write_text("a lake --seed 1\na forest --seed 2\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    words = ["--max-restarts", "1", *PROGRAM, "batch", "list.txt", "-o", "out", "--size", "256x192", "--steps", "4"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen([*command, *words], cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("out/*.png")):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    psutil.Process(run.pid).children()[1].kill()
    _, told = run.communicate(timeout=240)
    assert run.returncode == 0, told
    assert len(list(tmp_path.glob("out/*.png"))) == 2
