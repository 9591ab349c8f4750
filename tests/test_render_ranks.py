"""`--ranks N` from the command line: the image of one process, a killed rank, too many ranks, another device."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import psutil
import pytest
from PIL import Image

from linfusion_cli import render_ranks
from linfusion_cli.cli.app import main
from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.engine.distributed.waiting_board import WaitingBoard
from linfusion_cli.errors import RanksError, UsageError
from linfusion_cli.rank_process import BOARD
from linfusion_cli.render_ranks import rank_machines
from linfusion_cli.system.device import Machine, find_machine

ROOT = Path(__file__).parents[1]
COMMAND = ["generate", "a lake", "--seed", "3", "--quiet", "--size"]


IMPATIENT = """
import sys
from linfusion_cli.cli.app import main
from linfusion_cli.config.rank_options import RankOptions
from linfusion_cli.engine.distributed.waiting_board import WaitingBoard
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


@pytest.mark.long
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


@pytest.mark.long
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
    machines = rank_machines("cpu", RankOptions(ranks=3))
    assert [machine.device for machine in machines] == ["cpu"] * 3
    assert machines[0].free_bytes == pytest.approx(find_machine("cpu").free_bytes / 3, rel=0.1)


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with two cards, of which the second has less free memory; "mps" is there as well."""

    def find(device: str) -> Machine:
        number = int(device.partition(":")[2] or 0)
        if number > 1:
            raise UsageError(f"{device}: torch sees 2 cards", parameter="device")
        free = (40 - 10 * number) * 10**9
        name = "mps" if device == "mps" else f"cuda:{number}"
        cpu = find_machine("cpu")
        return replace(cpu, device=name, device_name=f"card {number}", free_bytes=free, ram_bytes=64 * 10**9)

    monkeypatch.setattr(render_ranks, "find_machine", find)


@pytest.mark.parametrize("device", ["auto", "cuda"])
def test_on_gpus_each_rank_takes_a_card_and_plans_for_the_smallest(two_cards: None, device: str) -> None:
    machines = rank_machines(device, RankOptions(ranks=2))
    assert [machine.device for machine in machines] == ["cuda:0", "cuda:1"]
    assert {machine.free_bytes for machine in machines} == {30 * 10**9}
    assert {machine.ram_bytes for machine in machines} == {32 * 10**9}


def test_more_ranks_than_cards_one_card_and_other_devices_are_refused(two_cards: None) -> None:
    with pytest.raises(UsageError, match=r"ranks 3: each takes a card, and torch sees 2\. Nearest: 2"):
        rank_machines("cuda", RankOptions(ranks=3))
    with pytest.raises(UsageError, match="cuda:1 is one card, and each takes one"):
        rank_machines("cuda:1", RankOptions(ranks=2))
    with pytest.raises(UsageError, match=r'not on mps.*device="cpu"'):
        rank_machines("mps", RankOptions(ranks=2))


def test_cards_are_those_that_were_named(two_cards: None) -> None:
    machines = rank_machines("cuda:1", RankOptions(ranks=2, devices=("cuda:1", "cuda:0")))
    assert [machine.device for machine in machines] == ["cuda:1", "cuda:0"]
    assert {machine.free_bytes for machine in machines} == {30 * 10**9}
    assert {tuple(device.name for device in machine.rank_devices) for machine in machines} == {("card 1", "card 0")}
    with pytest.raises(UsageError) as caught:
        rank_machines("cuda:0", RankOptions(ranks=3, devices=("cuda:0", "cuda:7", "cuda:1")))
    assert str(caught.value) == 'devices "cuda:0,cuda:7,cuda:1": cuda:7: torch sees 2 cards. Nearest: cuda:0,cuda:1'
    with pytest.raises(UsageError, match=r'cuda:7: torch sees 2 cards\. Try devices="cpu,cpu"'):
        rank_machines("cuda:0", RankOptions(ranks=2, devices=("cuda:0", "cuda:7")))


class Process:
    """A process that has ended, or runs until it is killed."""

    started: ClassVar[list[list[str]]] = []

    def __init__(self, command: list[str], code: int | None = 0, **_: object) -> None:
        self.started.append(command)
        self.code, self.pid = code, 2**22 + 1  # nobody's

    def wait(self, seconds: float = 0) -> int:
        if self.code is None:
            raise subprocess.TimeoutExpired("rank", seconds)
        return self.code

    def poll(self) -> int | None:
        return self.code

    def kill(self) -> None:
        self.code = -9


def test_every_other_rank_is_started_on_its_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a card: the commands of the processes."""
    monkeypatch.setattr(render_ranks.subprocess, "Popen", Process)
    monkeypatch.setattr(Process, "started", [])
    others = render_ranks._started(["cuda:0", "cuda:1", "cuda:2"], tmp_path)
    assert [other.rank for other in others] == [1, 2]
    assert [command[-3:] for command in Process.started] == [["1", "3", "cuda:1"], ["2", "3", "cuda:2"]]


@pytest.fixture
def lost_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """What four ranks say when rank 0 lost a message: codes of the others (None: they run), and who waited."""

    def cause(codes: list[int | None], waiting: set[int]) -> str:
        processes = render_ranks.RankProcesses(["cpu"] * 4)
        processes._folder = tmp_path
        processes._others = [
            render_ranks._Other(rank, Process([], code), tmp_path / f"error-{rank}")  # type: ignore[arg-type]
            for rank, code in enumerate(codes, 1)
        ]
        for rank in range(4):
            WaitingBoard.of(tmp_path / BOARD, rank, 4).flags[rank] = rank in waiting
        return str(processes._cause(RanksError("silent"), 0.1))

    monkeypatch.setattr(render_ranks, "SETTLE_SECONDS", 0.05)
    return cause


def test_those_that_hang_are_told_from_those_that_wait_for_them(lost_one: Callable[..., str]) -> None:
    end = "(silent). What is done is kept: start again"
    assert lost_one([69, None, 69], {0, 1, 3}) == f"rank 2 does not go on and was ended {end}"
    assert lost_one([None, None, None], {0, 1, 3}) == f"rank 2 does not go on and was ended {end}"
    assert lost_one([None, None, 69], {0, 3}) == f"ranks 1 and 2 do not go on and were ended {end}"
    assert lost_one([None, None, None], {0}) == f"ranks 1, 2 and 3 do not go on and were ended {end}"
    assert lost_one([None, None, None], {0, 1, 2, 3}) == f"ranks 1, 2 and 3 do not go on and were ended {end}"
    assert lost_one([69, 69, 69], {0, 1, 2, 3}) == "silent"


def test_a_rank_that_died_is_the_cause_though_others_have_not_ended(lost_one: Callable[..., str]) -> None:
    assert lost_one([None, -9, None], {0, 1}).startswith("rank 2 ended without a word (SIGKILL)")


def test_a_rank_that_ends_before_all_have_met_is_noticed_at_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    processes = render_ranks.RankProcesses(["cpu"] * 3)
    monkeypatch.setattr(render_ranks.tempfile, "mkdtemp", lambda prefix: str(tmp_path))
    monkeypatch.setattr(render_ranks.subprocess, "Popen", lambda command, **_: Process(command, -9))
    processes._start()
    with pytest.raises(RanksError, match="not all 3 ranks have started"):
        processes._met()
    assert "rank 1 ended without a word (SIGKILL)" in str(processes._cause(RanksError("lost"), 1.0))
