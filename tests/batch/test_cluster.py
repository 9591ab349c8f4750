"""A batch on a cluster: each image once, whatever happens to the workers; real processes, and any order of deaths."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from local_cluster import LocalCluster

from linfusion_cli import __version__
from linfusion_cli.batch import cluster
from linfusion_cli.batch.cluster import ClusterRunner, Ended, Happening, Joined, Lost, probed
from linfusion_cli.batch.cluster_worker import Assignment, Introduction, Probe, Report
from linfusion_cli.batch.journal import Journal
from linfusion_cli.batch.messages import Told
from linfusion_cli.batch.prompt_files import Row
from linfusion_cli.batch.runner import Options, Summary, at_work
from linfusion_cli.batch.task_list import Task, make_tasks
from linfusion_cli.errors import ClusterError
from linfusion_cli.output.png_reader import check

pytestmark = pytest.mark.slow  # all of them together


def tasks_of(*prompts: str) -> list[Task]:
    problems: list[str] = []
    rows = [Row(f"list:{number}", {"prompt": prompt, "size": "64x64"}) for number, prompt in enumerate(prompts, 1)]
    tasks = make_tasks(rows, {}, "{slug}-{seed}-{id}", lambda ids: {}, problems)
    assert not problems
    return tasks


class Batch:
    """A folder, and what was told of its runs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.told: list[Told] = []

    def run(self, tasks: list[Task], workers: int = 2, seen: Path | None = None, **options: Any) -> Summary:
        chosen = Options(**{"keep_going": True, "checkpoint_seconds": 0.0, **options})
        journal = Journal(self.folder)
        with at_work(journal), probed(self.folder) as probe:
            made = LocalCluster(workers, seen or self.folder, chosen, probe)
            try:
                return ClusterRunner(journal, chosen, self.told.append, made).run(tasks)
            finally:
                made.close()

    def done(self) -> Counter[str]:
        """How often the journals of the workers say that an image is made."""
        paths = (self.folder / ".linfusion").glob("journal*.jsonl")
        rows = [json.loads(line) for path in paths for line in path.read_text().splitlines()]
        return Counter(row["id"] for row in rows if row["event"] == "done")

    def texts(self, state: str) -> list[str]:
        return [told.text for told in self.told if told.state == state]


@pytest.fixture
def batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    monkeypatch.setenv("STAND_IN_FAULTS", str(tmp_path))
    (tmp_path / "out").mkdir()
    return Batch(tmp_path / "out")


def test_each_image_is_made_once_and_said_where(batch: Batch) -> None:
    tasks = tasks_of(*(f"lake {number}" for number in range(7)))
    summary = batch.run(tasks)
    assert (summary.made, summary.failed, summary.left) == (7, 0, 0)
    assert batch.done() == Counter(task.id for task in tasks)
    made = [told for told in batch.told if told.state == "made"]
    assert all(len(told.sha256) == 64 and told.host for told in made)
    for path in batch.folder.glob("*.png"):
        check(path)
    assert len(list((batch.folder / ".linfusion").glob("journal-on-*.jsonl"))) == 2
    assert not list((batch.folder / ".linfusion").glob("probe*"))
    again = batch.run(tasks)
    assert (again.made, again.skipped, again.loads) == (0, 7, 0)


def test_a_worker_that_dies_loses_no_image_and_makes_none_twice(batch: Batch) -> None:
    tasks = tasks_of("lake 1", "FAULT:parent lake 2", *(f"lake {number}" for number in range(3, 8)))
    summary = batch.run(tasks)
    assert (summary.made, summary.failed, summary.left) == (7, 0, 0)
    assert batch.done() == Counter(task.id for task in tasks)
    assert [text for text in batch.texts("retry") if "its worker died (exit code -9); tried again" in text]


def test_an_image_at_which_two_workers_die_is_given_up_by_name(batch: Batch) -> None:
    tasks = tasks_of("FAULT:parent FAULT:always lake", "lake 1", "lake 2")
    summary = batch.run(tasks)
    assert (summary.made, summary.failed, summary.error_code) == (2, 1, ClusterError.exit_code)
    (text,) = batch.texts("failed")
    assert text.startswith("2 workers died at it and it is given up")
    assert next(told.task.place for told in batch.told if told.state == "failed") == "list:1"
    assert list(Journal(batch.folder).failed) == [tasks[0].id]


def test_a_worker_tries_again_itself_where_only_its_process_died(batch: Batch) -> None:
    summary = batch.run(tasks_of("FAULT:sigkill lake", "FAULT:cuda FAULT:always hill"), retries=1)
    assert (summary.made, summary.failed) == (1, 1)
    assert any("was killed (SIGKILL)" in text for text in batch.texts("retry"))
    assert any("CUDA error" in text for text in batch.texts("failed"))


def test_a_folder_that_is_not_shared_is_named(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(ClusterError) as caught:
        batch.run(tasks_of("a lake"), workers=1, seen=tmp_path / "elsewhere")
    assert "can't take part: it does not see in" in str(caught.value)
    assert str(tmp_path / "elsewhere") in str(caught.value)
    assert not list((tmp_path / "elsewhere").iterdir())


class Mortal:
    """Workers that make nothing, and die at some images; `deaths` says of each try whether it is a death."""

    def __init__(self, size: int, random: random.Random, poison: frozenset[str]) -> None:
        self.size, self._random, self._poison = size, random, poison
        self.assigned: dict[int, list[str]] = {worker: [] for worker in range(size)}
        self._joins = list(range(size))
        self.deaths: Counter[str] = Counter()
        self.most = 0

    def assign(self, worker: int, assignment: Assignment) -> None:
        assert worker not in self._joins, "it has not joined"
        self.assigned[worker].append(str(assignment.order["id"]))
        self.most = max(self.most, len(self.assigned[worker]))

    def happenings(self, seconds: float) -> list[Happening]:
        if self._joins and self._random.random() < 0.5:
            worker = self._joins.pop(self._random.randrange(len(self._joins)))
            return [Joined(worker, Introduction(host="here", version=__version__))]
        busy = [worker for worker, ids in self.assigned.items() if ids]
        if not busy:
            return []
        worker = self._random.choice(busy)
        first = self.assigned[worker][0]
        if first in self._poison or self._random.random() < 0.15:
            self.deaths[first] += 1
            self.assigned[worker].clear()
            self._joins.append(worker)
            return [Lost(worker, "killed")]
        self.assigned[worker].pop(0)
        return [Ended(worker, Report(id=first, host="here", state="found"))]

    def stop(self) -> None:
        raise AssertionError("nobody asked for it")


TASKS = tasks_of(*(f"lake {number}" for number in range(12)))


@contextmanager
def opened() -> Iterator[Journal]:
    with TemporaryDirectory() as folder, at_work(journal := Journal(Path(folder))):
        yield journal


RANDOM = st.randoms(use_true_random=False)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 5), st.integers(0, 12), st.sets(st.integers(0, 11), max_size=3), st.randoms(use_true_random=False)
)
def test_whatever_dies_each_image_ends_once_and_only_two_deaths_give_one_up(
    size: int, count: int, poison: set[int], random: random.Random
) -> None:
    told: list[Told] = []
    workers = Mortal(size, random, frozenset(TASKS[index].id for index in poison))
    with opened() as journal:
        summary = ClusterRunner(journal, Options(keep_going=True), told.append, workers).run(TASKS[:count])
        failed = set(journal.failed)
    ends = Counter(one.task.id for one in told if one.state in ("made", "failed"))
    assert ends == Counter(task.id for task in TASKS[:count])
    assert failed == {key for key, deaths in workers.deaths.items() if deaths == cluster.MOST_LOST}
    assert max(workers.deaths.values(), default=0) <= cluster.MOST_LOST
    assert (summary.made, summary.failed, summary.left) == (count - len(failed), len(failed), 0)
    assert workers.most <= cluster.IN_FLIGHT


class Scripted:
    """Says what it is told to say."""

    size = 1

    def __init__(self, *happenings: Happening) -> None:
        self._happenings = list(happenings)
        self.assigned: list[Assignment] = []

    def assign(self, worker: int, assignment: Assignment) -> None:
        self.assigned.append(assignment)

    def happenings(self, seconds: float) -> list[Happening]:
        return [self._happenings.pop(0)] if self._happenings else []

    def stop(self) -> None:
        raise AssertionError("nobody asked for it")


def scripted(*happenings: Happening, **options: Any) -> tuple[Summary, Scripted]:
    made = Scripted(*happenings)
    with opened() as journal:
        return ClusterRunner(journal, Options(**options), lambda told: None, made).run(TASKS[:4]), made


HERE = Joined(0, Introduction(host="here", version=__version__))


def test_another_version_is_refused_by_name() -> None:
    with pytest.raises(ClusterError, match=r"old-node has linfusion 0\.0\.1, and this machine"):
        scripted(Joined(0, Introduction(host="old-node", version="0.0.1")))


def test_workers_that_never_start_end_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "JOIN_SECONDS", 0.0)
    with pytest.raises(ClusterError, match="no worker of 1 has started within 0 seconds"):
        scripted()
    with pytest.raises(ClusterError, match="no worker can start: no module named linfusion_cli"):
        scripted(Lost(0, "no module named linfusion_cli", final=True))


def test_no_more_than_the_limit_is_begun() -> None:
    found = [Ended(0, Report(id=task.id, host="here", state="found")) for task in TASKS[:4]]
    summary, made = scripted(HERE, *found[:2], limit=2)
    assert (summary.made, summary.left, len(made.assigned)) == (2, 2, 2)
    assert summary.stopped == "limit is reached"


def test_a_probe_is_seen_in_its_folder_alone(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with probed(tmp_path) as probe:
        assert probe.seen(tmp_path)
        assert not probe.seen(tmp_path / "other")
        assert not Probe(probe.name, "another token").seen(tmp_path)
    assert not probe.seen(tmp_path)
