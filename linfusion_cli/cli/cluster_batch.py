"""`linfusion batch --on ray`: the same lists and the same folder, on the machines of a cluster."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from linfusion_cli.errors import Spell, UsageError

if TYPE_CHECKING:
    from linfusion_cli.batch.journal import Journal
    from linfusion_cli.batch.messages import Told
    from linfusion_cli.batch.runner import Options, Summary
    from linfusion_cli.batch.task_list import Task

OnFlag = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray[://HOST:PORT]",
        help="Make the images on a cluster by Ray: one worker for each GPU, or for each --cores. The folder is shared.",
    ),
]
CoresFlag = Annotated[
    int | None,
    typer.Option("--cores", metavar="N", min=1, max=1024, help="With --on: CPU cores of a worker without a GPU."),
]


@dataclass(frozen=True, slots=True)
class OnCluster:
    """Where a batch runs: address: of a cluster, "" for the one here; cores: of a worker, 0 for the usual number;
    device: as the lists say."""

    address: str
    cores: int
    device: str

    @staticmethod
    def of(on: str | None, cores: int | None, device: object, preview: object) -> OnCluster | None:
        """None for this machine alone. Raises UsageError for a name that is none, and for what needs a cluster."""
        if on is None:
            if cores is not None:
                raise UsageError(f"--cores {cores} says how large a worker of a cluster is: give --on as well")
            return None
        from linfusion_cli.batch.ray_cluster import checked_address

        address = checked_address(on)
        if preview is not None:
            raise UsageError(f"--preview {preview}: with --on many images are made at a time. Leave one of them out")
        return OnCluster(address, cores or 0, str(device or "auto"))

    def run(
        self, journal: Journal, options: Options, tell: Callable[[Told], None], spell: Spell, tasks: list[Task]
    ) -> Summary:
        """As Runner.run. Raises ClusterError for a cluster that can't be reached, or whose machines can't take part."""
        from linfusion_cli.batch.cluster import ClusterRunner, probed
        from linfusion_cli.batch.ray_cluster import connected

        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),  # Ray prints there what it has to say of dead actors, as we do
            probed(journal.folder) as probe,
            connected(self.address, journal.folder, options, probe, cores=self.cores, device=self.device) as cluster,
        ):
            return ClusterRunner(journal, options, tell, cluster, spell).run(tasks)
