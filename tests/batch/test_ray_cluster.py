"""Ray: names and addresses, what its answers and errors become, and a batch by real actors where Ray is installed."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from linfusion_cli.batch import ray_cluster
from linfusion_cli.batch.cluster import Ended, Joined, Lost
from linfusion_cli.batch.cluster_worker import Assignment, Introduction, Report
from linfusion_cli.batch.ray_cluster import RayCluster, checked_address, count_of, resources_of
from linfusion_cli.errors import ClusterError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name == "ray")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("ray", ""),
        ("ray://head:10001", "ray://head:10001"),
        ("ray://10.0.0.1:10001/", "ray://10.0.0.1:10001"),
        ("ray://[::1]:10001", "ray://[::1]:10001"),
    ],
)
def test_places(installed: None, text: str, address: str) -> None:
    assert checked_address(text) == address


@pytest.mark.parametrize(
    ("text", "advice"),
    [
        ("Ray", 'Did you mean "ray"?'),
        ("slurm", "Allowed: ray, or ray://head-node:10001"),
        ("ray://head", 'Did you mean "ray://head-node:10001"?'),
        ("ray://head:port", 'Did you mean "ray://head-node:10001"?'),
        ("", "Allowed: ray, or ray://head-node:10001"),
    ],
)
def test_other_places_are_refused_with_one_that_is_accepted(installed: None, text: str, advice: str) -> None:
    with pytest.raises(UsageError) as caught:
        checked_address(text)
    assert str(caught.value) == f'on "{text}": no cluster is named so. {advice}'


def test_without_ray_the_command_that_installs_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r'pip install "linfusion-cli\[ray\]"'):
        checked_address("ray")


@pytest.mark.parametrize("address", ["ray://127.0.0.1:9", "ray://no-such-host.invalid:10001", "ray://127.0.0.1:99999"])
def test_an_address_that_nobody_answers_is_named(address: str) -> None:
    with pytest.raises(ClusterError) as caught:
        ray_cluster.refuse_silent(address)
    assert str(caught.value).startswith(f"{address}: no cluster answers there within 10 seconds")


def nodes(*resources: dict[str, float], alive: bool = True) -> list[dict[str, Any]]:
    return [{"Alive": alive, "Resources": found} for found in resources]


def test_a_worker_takes_a_gpu_or_so_many_cores() -> None:
    """GPUs where there are any and no device was asked for; a machine with too few cores takes no worker."""
    both = {"CPU": 16.0, "GPU": 2.0}
    assert resources_of(both, 4, "auto") == resources_of(both, 4, "cuda") == {"GPU": 1}
    assert resources_of(both, 4, "cpu") == resources_of({"CPU": 16.0}, 4, "auto") == {"CPU": 4}
    assert count_of(nodes({"CPU": 9.0}, {"CPU": 3.0}, both), {"CPU": 4}) == 2 + 0 + 4
    assert count_of(nodes({"CPU": 9.0}, both), {"GPU": 1}) == 2
    assert count_of(nodes(both, alive=False), {"GPU": 1}) == 0


class RayError(Exception):
    """As ray.exceptions.RayError."""


@dataclass(eq=False)
class Reference:
    """As ray.ObjectRef: to what an actor will have answered."""

    value: Any


class Actor:
    """Whose methods have answers, or errors, that are ready at once."""

    def __init__(self, **answers: list[Any]) -> None:
        self.asked: list[str] = []
        for name in ("introduce", "make", "close", "stop"):
            setattr(self, name, SimpleNamespace(remote=self._remote(name, answers.get(name, []))))

    def _remote(self, name: str, answers: list[Any]) -> Any:
        def remote(*_: object) -> Any:
            self.asked.append(name)
            return Reference(answers.pop(0) if answers else None)

        return remote


def get(reference: Any) -> Any:
    if isinstance(reference.value, Exception):
        raise reference.value
    return reference.value


def of(*actors: Actor) -> RayCluster:
    fake = SimpleNamespace(
        wait=lambda references, num_returns, timeout: ([each for each in references if each.value is not None], []),
        get=get,
        exceptions=SimpleNamespace(RayError=RayError),
    )
    return RayCluster(fake, list(actors))


SIMPLE = Introduction(host="here", version="1")
WORK = Assignment(order={}, place="list:1")


def test_answers_become_happenings_and_a_lost_actor_is_asked_in_again() -> None:
    report = Report(id="1", host="here", state="found")
    actor = Actor(introduce=[SIMPLE, SIMPLE], make=[report, RayError("The actor died: killed\nwith advice"), report])
    cluster = of(actor)
    cluster.ask_in(0)
    assert cluster.happenings(0) == [Joined(0, SIMPLE)]
    cluster.assign(0, WORK)
    assert cluster.happenings(0) == [Ended(0, report)]
    cluster.assign(0, WORK)
    cluster.assign(0, WORK)  # what waited behind it is lost with it
    assert cluster.happenings(0) == [Lost(0, "RayError: The actor died: killed")]
    assert cluster.happenings(0) == [Joined(0, SIMPLE)]


def test_an_actor_that_ray_is_starting_again_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not available for a while, which is no start that failed, and it is lost once."""

    class ActorUnavailableError(RayError):
        pass

    restarting = ActorUnavailableError("The actor is restarting")
    actor = Actor(introduce=[SIMPLE, *[restarting] * 5, SIMPLE], make=[restarting])
    cluster = of(actor)
    cluster.ray.exceptions.ActorUnavailableError = ActorUnavailableError
    monkeypatch.setattr(ray_cluster, "RESTART_SECONDS", 0.0)
    cluster.ask_in(0)
    assert cluster.happenings(0) == [Joined(0, SIMPLE)]
    cluster.assign(0, WORK)
    assert cluster.happenings(0) == [Lost(0, "ActorUnavailableError: The actor is restarting")]
    assert [cluster.happenings(0) for _ in range(6)] == [[]] * 5 + [[Joined(0, SIMPLE)]]


def test_an_actor_that_can_not_start_is_asked_three_times() -> None:
    cluster = of(Actor(introduce=[RayError("no module")] * 9))
    cluster.ask_in(0)
    found = [happening for _ in range(5) for happening in cluster.happenings(0)]
    assert found == [Lost(0, "RayError: no module", final) for final in (False, False, True)]


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
def test_actors_of_ray_make_each_image_once_though_one_is_killed(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("".join(f"a lake {number}\n" for number in range(6)))
    command = [sys.executable, "-m", "linfusion_cli", "batch", "list.txt", "-o", "out", "--size", "64x64", "--json"]
    process = subprocess.Popen(
        [*command, "--on", "ray", "--cores", "1"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    rows: list[dict[str, Any]] = []
    killed = False
    for line in process.stdout:
        rows.append(json.loads(line))
        if rows[-1]["type"] == "made" and not killed:
            killed = True
            actors = [each for each in psutil.process_iter(["cmdline"]) if is_actor(each)]
            actors[0].kill()
    assert process.wait(120) == 0, process.stderr.read()
    process.stderr.close()
    process.stdout.close()
    made = [row["id"] for row in rows if row["type"] == "made"]
    assert len(made) == len(set(made)) == len(list((tmp_path / "out").glob("*.png"))) == 6
    assert any(row["type"] == "retry" and "its worker died" in row["text"] for row in rows)
    deadline = time.monotonic() + 30
    while any(is_actor(each) for each in psutil.process_iter(["cmdline"])):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def is_actor(process: psutil.Process) -> bool:
    """Whether a process is an actor at work; tests start no two batches at a time."""
    return bool(process.info["cmdline"]) and process.info["cmdline"][0].startswith("ray::RayWorker")
