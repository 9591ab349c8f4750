"""A cluster of processes of this machine, for tests: what Ray does for a batch, with nothing but multiprocessing."""

from __future__ import annotations

import multiprocessing as mp
import sys
import threading
import time
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from linfusion_cli.batch.cluster import Ended, Happening, Joined, Lost
from linfusion_cli.batch.cluster_worker import Assignment, ClusterWorker, Probe, Share
from linfusion_cli.batch.runner import Options
from linfusion_cli.batch.worker_process import WorkerProcess

STAND_IN = Path(__file__).with_name("stand_in.py")


class LocalCluster:
    """Workers in processes of their own, which are started again when they die."""

    def __init__(self, size: int, folder: Path, options: Options, probe: Probe) -> None:
        self._told = (str(folder), options, probe)
        self._workers = [self._started() for _ in range(size)]

    def _started(self) -> tuple[Any, Connection]:
        ours, theirs = mp.get_context("spawn").Pipe()
        process = mp.get_context("spawn").Process(target=_serve, args=(theirs, *self._told))
        process.start()
        theirs.close()
        return process, ours

    @property
    def size(self) -> int:
        return len(self._workers)

    def assign(self, worker: int, assignment: Assignment) -> None:
        self._workers[worker][1].send(assignment)

    def happenings(self, seconds: float) -> list[Happening]:
        found: list[Happening] = []
        ready = wait([ours for _, ours in self._workers], seconds)
        for worker, (process, ours) in enumerate(self._workers):
            if ours not in ready:
                continue
            try:
                name, value = ours.recv()
                found.append(Joined(worker, value) if name == "introduction" else Ended(worker, value))
            except (EOFError, ConnectionResetError):
                process.join()
                ours.close()
                self._workers[worker] = self._started()
                found.append(Lost(worker, f"exit code {process.exitcode}"))
        return found

    def stop(self) -> None:
        for _, ours in self._workers:
            ours.send("stop")

    def close(self) -> None:
        for process, ours in self._workers:
            ours.close()
            process.join(20)
            process.kill()
            process.join()
            process.close()


def _serve(theirs: Connection, folder: str, options: Options, probe: Probe) -> None:
    """What runs in a worker's process, around the stand-in for the engine."""
    WorkerProcess.command = (sys.executable, "-P", str(STAND_IN), "child")
    worker = ClusterWorker(folder, options, probe, Share(workers=1, cores=1, on_gpu=False))
    theirs.send(("introduction", worker.introduce()))
    waiting: list[Assignment] = []
    ended = threading.Event()

    def listen() -> None:
        try:
            while True:
                heard = theirs.recv()
                if heard == "stop":
                    worker.stop()
                else:
                    waiting.append(heard)
        except (EOFError, OSError):
            worker.stop()
            ended.set()

    threading.Thread(target=listen, daemon=True).start()
    while not ended.is_set():
        if waiting:
            theirs.send(("report", worker.make(waiting.pop(0))))
        else:
            time.sleep(0.01)
    worker.close()
