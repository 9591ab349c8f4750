"""One worker of a cluster: its part of the machine, its journal, other files than the batch has, and its end."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from linfusion_cli.batch.cluster import probed
from linfusion_cli.batch.cluster_worker import Assignment, ClusterWorker, Share
from linfusion_cli.batch.messages import Order
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.runner import Options
from linfusion_cli.batch.task_list import Task, make_tasks
from linfusion_cli.batch.worker_process import WorkerProcess
from linfusion_cli.errors import OutputError
from linfusion_cli.system.signals import STOP

STAND_IN = Path(__file__).parents[1] / "stand_in.py"
ALONE = Share(workers=1, cores=3, on_gpu=False)


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ClusterWorker]]:
    """Two workers in this process, which compute by the stand-in for the engine."""
    monkeypatch.setattr(WorkerProcess, "command", (sys.executable, "-P", str(STAND_IN), "child"))
    monkeypatch.setenv("STAND_IN_FAULTS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with probed(tmp_path) as probe:
        made = [ClusterWorker(str(tmp_path), Options(keep_going=True), probe, ALONE) for _ in range(2)]
        yield made
        for worker in made:
            worker.close()
    STOP.reset()


def task_of(prompt: str) -> Task:
    (task,) = make_tasks(
        [Row("list:1", {"prompt": prompt, "size": "64x64"})], {}, "{slug}-{seed}-{id}", lambda ids: {}, []
    )
    return task


def assigned(task: Task, folder: Path, key: str = "") -> Assignment:
    order = Order(id=key or task.id, request=task.request(folder, overwrite=False))
    return Assignment(order=order.as_json(), place=task.place)


@pytest.mark.slow
def test_it_makes_an_image_finds_it_again_and_stops(workers: list[ClusterWorker], tmp_path: Path) -> None:
    first, second = workers
    assert [worker.introduce().problem for worker in workers] == ["", ""]
    assert os.environ["OMP_NUM_THREADS"] == "3"
    task = task_of("a lake")
    made = first.make(assigned(task, tmp_path))
    assert (made.id, made.state, made.failed) == (task.id, "made", None)
    assert made.made is not None
    assert made.made.name == task.name
    found = second.make(assigned(task, tmp_path))
    assert (found.state, found.sha256) == ("found", made.sha256)
    names = {path.name for path in (tmp_path / ".linfusion").glob("journal-on-*.jsonl")}
    assert len(names) == 2
    first.stop()
    assert first.make(assigned(task_of("a hill"), tmp_path)).state == "stopped"


def test_a_journal_is_used_again_by_the_next_worker_of_a_machine(workers: list[ClusterWorker], tmp_path: Path) -> None:
    for worker in workers:
        assert worker.introduce().problem == ""
        worker.close()
    assert len(list((tmp_path / ".linfusion").glob("journal-on-*.jsonl"))) == 1


def test_another_job_than_the_batchs_is_refused(workers: list[ClusterWorker], tmp_path: Path) -> None:
    """As where a preset, or a file that it names, differs on this machine."""
    workers[0].introduce()
    report = workers[0].make(assigned(task_of("a lake"), tmp_path, key="0" * 64))
    assert report.state == "failed"
    assert report.failure.exit_code == OutputError.exit_code
    assert "makes another job of list:1" in str(report.failure.message)


def test_a_worker_that_was_not_introduced_makes_nothing(workers: list[ClusterWorker], tmp_path: Path) -> None:
    assert workers[0].make(assigned(task_of("a lake"), tmp_path)).state == "stopped"


def test_workers_of_one_machine_share_its_memory() -> None:
    options = Options()
    assert ALONE.of(options) == options
    half = replace(ALONE, workers=2).of(options).most_bytes
    assert 0 < replace(ALONE, workers=8).of(options).most_bytes < half
    assert replace(ALONE, workers=2, on_gpu=True).of(options) == options
    assert replace(ALONE, on_gpu=True).environment() == {}
