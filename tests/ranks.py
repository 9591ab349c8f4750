"""Processes that make one image together, for tests: started once, then given functions to run as ranks of a group."""

from __future__ import annotations

import multiprocessing as mp
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TIMEOUT_SECONDS = 600.0  # a machine may be busy
MOST = 7
SIZES = (2, 3, 4, 7)


class Ranks:
    """MOST processes with one thread each, which meet through a file."""

    def __init__(self, folder: Path) -> None:
        context = mp.get_context("forkserver")
        context.set_forkserver_preload(["torch", "diffusers", "rank_work"])
        self.connections: list[Connection] = []
        self.processes: list[Any] = []
        for rank in range(MOST):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(rank, str(folder / "rendezvous"), theirs), daemon=True)
            process.start()
            theirs.close()
            self.connections.append(ours)
            self.processes.append(process)

    def run(self, size: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """What function(group, *arguments) returns on each rank of a group of `size`; an error of a rank is raised."""
        for connection in self.connections:
            connection.send((size, function, arguments))
        answers = []
        for rank, connection in enumerate(self.connections):
            assert connection.poll(TIMEOUT_SECONDS), f"rank {rank} of {size} is silent"
            answers.append(connection.recv())
        failed = [text for done, text in answers if not done]
        assert not failed, failed[0]
        return [value for _, value in answers[:size]]

    def stop(self) -> None:
        for connection in self.connections:
            connection.close()
        for process in self.processes:
            process.join(10)
            if process.is_alive():
                process.kill()


def _serve(rank: int, rendezvous: str, connection: Connection) -> None:
    import rank_work
    import torch
    import torch.distributed as dist

    from linfusion_cli.engine.distributed.process_group import Group, connect

    torch.set_num_threads(1)
    world = connect(rank, MOST, torch.device("cpu"), f"file://{rendezvous}", TIMEOUT_SECONDS)
    # all processes make every group at once, as torch asks of them
    groups = {size: dist.new_group(list(range(size))) for size in range(1, MOST)} | {MOST: world.handle}
    for size in range(2, MOST + 1, 2):
        members = tuple(range(size))
        first, second = (
            Group(part.index(rank) if rank in part else -1, part, world.device, dist.new_group(list(part)))
            for part in (members[: size // 2], members[size // 2 :])
        )
        rank_work.HALVES[size] = first, second
    while True:
        try:
            size, function, arguments = connection.recv()
        except EOFError:
            return
        try:
            value = None
            if rank < size:
                group = Group(rank, tuple(range(size)), world.device, groups[size])
                value = function(group, *arguments)
            connection.send((True, value))
        except BaseException:
            connection.send((False, traceback.format_exc()))
