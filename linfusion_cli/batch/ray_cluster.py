"""A cluster by Ray: an actor for each GPU, or for so many CPU cores, around a ClusterWorker.

Ray restarts an actor that dies, on another machine where its own is gone. What was assigned to it is not tried again by
Ray but by the batch, which counts. Nothing but names, hashes and messages goes through Ray: docs.ray.io, "Actors" and
"Fault tolerance".
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from linfusion_cli.batch.cluster import Ended, Happening, Joined, Lost
from linfusion_cli.batch.cluster_worker import Assignment, ClusterWorker, Introduction, Probe, Report, Share
from linfusion_cli.batch.runner import Options
from linfusion_cli.errors import ClusterError, UsageError, nearest_name

CONNECT_SECONDS = 10.0
CLOSE_SECONDS = 15.0
USUAL_CORES = 4
MOST_STARTS = 3  # of a worker, one after the other, without a sign of it
RESTART_SECONDS = 1.0  # until a worker that Ray is starting again is asked once more
CONTROL = "control"  # the thread of an actor that hears stop() while another makes an image
ADDRESS = re.compile(r"ray://(?P<host>[^\s:/]+|\[[0-9a-fA-F:]+\]):(?P<port>\d{1,5})/?")
NAME = "ray"
EXAMPLE = "ray://head-node:10001"


def checked_address(text: str) -> str:
    """The address of a cluster, "" for Ray on this machine or the cluster that it belongs to.

    Raises UsageError for anything else than ray and ray://HOST:PORT, and where Ray is not installed.
    """
    given = text.strip()
    if given != NAME and not ADDRESS.fullmatch(given):
        close = f'Did you mean "{EXAMPLE}"?' if given.startswith("ray:") else f"Allowed: {NAME}, or {EXAMPLE}"
        close = f'Did you mean "{NAME}"?' if nearest_name(given.lower(), [NAME]) else close
        raise UsageError(f'"{text:.80}": no cluster is named so. {close}', parameter="on")
    if importlib.util.find_spec("ray") is None:
        raise UsageError(
            f'"{text}" needs the package ray, which is not installed. Run: pip install "linfusion-cli[ray]"',
            parameter="on",
        )
    return "" if given == NAME else given.rstrip("/")


def refuse_silent(address: str) -> None:
    """Raises ClusterError where nobody listens at an address: Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ClusterError(
            f"{address}: no cluster answers there within {CONNECT_SECONDS:.0f} seconds ({error}). On the head node "
            "`ray start --head` opens ray://HEAD:10001 for clients; `ray status` there shows the machines"
        ) from error


@dataclass(slots=True)
class RayCluster:
    """The actors of one batch."""

    ray: Any
    actors: list[Any]
    _running: dict[Any, tuple[int, Callable[[Any], Happening]]] = field(default_factory=dict)
    _starts: dict[int, int] = field(default_factory=dict)  # of each worker since it joined
    _ask_at: dict[int, float] = field(default_factory=dict)  # on the clock, workers that Ray is starting again

    @property
    def size(self) -> int:
        return len(self.actors)

    def assign(self, worker: int, assignment: Assignment) -> None:
        self._running[self.actors[worker].make.remote(assignment)] = (worker, _ended(worker))

    def happenings(self, seconds: float) -> list[Happening]:
        for worker, at in list(self._ask_at.items()):
            if time.monotonic() >= at:
                del self._ask_at[worker]
                self.ask_in(worker)
        if not self._running:
            time.sleep(seconds)
            return []
        ready, _ = self.ray.wait(list(self._running), num_returns=1, timeout=seconds)
        ready, _ = self.ray.wait(list(self._running), num_returns=len(self._running), timeout=0) if ready else ([], [])
        found: list[Happening] = []
        for reference in ready:
            if reference in self._running:
                worker, told = self._running.pop(reference)
                try:
                    found.append(told(self.ray.get(reference)))
                except self.ray.exceptions.RayError as error:
                    found += self._lost(worker, error)
        return found

    def stop(self) -> None:
        for actor in self.actors:
            actor.stop.options(concurrency_group=CONTROL).remote()

    def ask_in(self, worker: int) -> None:
        """Asks a worker to introduce itself, when it has started."""
        self._starts[worker] = self._starts.get(worker, 0) + 1

        def told(introduction: Introduction) -> Happening:
            self._starts[worker] = 0
            return Joined(worker, introduction)

        self._running[self.actors[worker].introduce.remote()] = (worker, told)

    def close(self) -> None:
        """Ends the actors, after a moment in which they free their locks."""
        with contextlib.suppress(self.ray.exceptions.RayError):
            self.ray.wait([actor.close.remote() for actor in self.actors], num_returns=self.size, timeout=CLOSE_SECONDS)
        for actor in self.actors:
            self.ray.kill(actor)

    def _lost(self, worker: int, error: Exception) -> list[Happening]:
        """All that is assigned to a worker is lost with it; Ray starts it again, which it says by joining."""
        for reference, (other, _) in list(self._running.items()):
            if other == worker:
                del self._running[reference]
        waits = isinstance(error, getattr(self.ray.exceptions, "ActorUnavailableError", ()))  # Ray is starting it again
        asked_in = self._starts[worker] > 0
        if waits:
            self._starts[worker] = max(0, self._starts[worker] - 1)  # that is no start that failed
            self._ask_at[worker] = time.monotonic() + RESTART_SECONDS
            return [] if asked_in else [Lost(worker, _cause(error))]
        final = self._starts[worker] >= MOST_STARTS
        if not final:
            self.ask_in(worker)
        return [Lost(worker, _cause(error), final)]


def _ended(worker: int) -> Callable[[Report], Happening]:
    def told(report: Report) -> Happening:
        return Ended(worker, report)

    return told


def _cause(error: Exception) -> str:
    """The first sentence of what Ray says, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:160].rstrip(": ")


@contextmanager
def connected(
    address: str, folder: Path, options: Options, probe: Probe, *, cores: int, device: str
) -> Iterator[RayCluster]:
    """A cluster whose workers make images in a folder; they are gone when the block is left.

    address: ray://HOST:PORT, or "" for the cluster that RAY_ADDRESS names, or else this machine alone
    cores: CPU cores of a worker that computes on them, 0 for USUAL_CORES or all of a smaller machine
    device: "cpu", "cuda" or "auto", which prefers GPUs

    Raises ClusterError if nobody answers there, or if the cluster has not what one worker takes.
    """
    import ray

    named = address or os.environ.get("RAY_ADDRESS", "")
    if named.startswith("ray://"):
        refuse_silent(named)
    try:
        with warnings.catch_warnings():  # the error says it
            warnings.simplefilter("ignore")
            ray.init(address=address or None, log_to_driver=False, logging_level="ERROR", **({} if named else LOCAL))
    except Exception as error:  # plain Exception, too, where the machine is too busy for Ray's own time limits
        why = str(error).strip().splitlines()[0]
        raise ClusterError(f"{named or NAME}: {why:.200}. `ray status` on its machine says what is up") from error
    cluster: RayCluster | None = None
    try:
        cores = cores or min(USUAL_CORES, int(max(node["Resources"].get("CPU", 1) for node in ray.nodes())))
        each = resources_of(ray.cluster_resources(), cores, device)
        count = count_of(ray.nodes(), each)
        if not count:
            raise ClusterError(f"{named or NAME}: no machine there has {_told(each)} for a worker")
        share = Share(workers=_most_on_one(ray.nodes(), each), cores=cores, on_gpu="GPU" in each)
        cluster = RayCluster(
            ray, [_actor(ray, each).remote(str(folder.absolute()), options, probe, share) for _ in range(count)]
        )
        for worker in range(count):
            cluster.ask_in(worker)
        yield cluster
    finally:
        if cluster is not None:
            cluster.close()
        ray.shutdown()


LOCAL: Mapping[str, Any] = {"include_dashboard": False, "configure_logging": False}  # of Ray on this machine alone


def resources_of(all_of: Mapping[str, float], cores: int, device: str) -> dict[str, float]:
    """What one worker takes of its machine: a GPU, or so many cores."""
    on_gpu = device.startswith("cuda") or (device == "auto" and all_of.get("GPU", 0) >= 1)
    return {"GPU": 1} if on_gpu else {"CPU": cores}


def _fitting(node: Mapping[str, Any], each: Mapping[str, float]) -> int:
    has = node["Resources"] if node["Alive"] else {}
    return min(int(has.get(name, 0) // amount) for name, amount in each.items())


def count_of(nodes: list[Any], each: Mapping[str, float]) -> int:
    return sum(_fitting(node, each) for node in nodes)


def _most_on_one(nodes: list[Any], each: Mapping[str, float]) -> int:
    return max((_fitting(node, each) for node in nodes), default=0)


def _told(each: Mapping[str, float]) -> str:
    return ", ".join(f"{amount:g} {name}" for name, amount in each.items())


def _actor(ray: Any, each: Mapping[str, float]) -> Any:
    """The class of the actors: stop() comes through while make() runs."""
    made = ray.remote(
        num_cpus=each.get("CPU", 1),
        num_gpus=each.get("GPU", 0),
        max_restarts=-1,
        max_task_retries=0,
        concurrency_groups={CONTROL: 1},
        scheduling_strategy="SPREAD",
    )
    return made(RayWorker)


class RayWorker:
    """A ClusterWorker in an actor of Ray."""

    def __init__(self, folder: str, options: Options, probe: Probe, share: Share) -> None:
        self._worker = ClusterWorker(folder, options, probe, share)

    def introduce(self) -> Introduction:
        """See ClusterWorker."""
        return self._worker.introduce()

    def make(self, assignment: Assignment) -> Report:
        """See ClusterWorker."""
        return self._worker.make(assignment)

    def stop(self) -> None:
        """See ClusterWorker. In a thread of its own."""
        self._worker.stop()

    def close(self) -> None:
        """See ClusterWorker."""
        self._worker.close()
