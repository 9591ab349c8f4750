"""The role of this process: it renders alone, starts other ranks, or is a rank of a launcher."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from linfusion_cli.errors import UsageError

if TYPE_CHECKING:
    from linfusion_cli.batch.runner import Options
    from linfusion_cli.config.job import Job
    from linfusion_cli.config.rank_options import RankOptions
    from linfusion_cli.launched_ranks import Launch
    from linfusion_cli.render import Rendered
    from linfusion_cli.system.device import Machine

    Run = Callable[..., Rendered]  # as render.render()


def followed(device: str, *, dry_run: bool) -> bool:
    """Whether a launcher started this process as a rank above 0: then its part of the image is done on return."""
    launch = _launch()
    if launch is None or not launch.rank:
        return False
    if not dry_run:
        from linfusion_cli.launched_ranks import follow

        follow(launch, device)
    return True


@contextmanager
def planned_for(job: Job, *, dry_run: bool) -> Iterator[tuple[Machine, int, Run]]:
    """The machine and the number of ranks to plan for, and what renders plans: alone, with more ranks, or as leader.

    Raises UsageError for ranks inside a launcher's processes; RanksError if these don't meet.
    """
    from linfusion_cli.render import render
    from linfusion_cli.system.device import find_machine

    device, ranks, launch = job.device, job.rank_options.ranks, _launch()
    if launch is not None:
        _refuse_more_ranks(launch, job.rank_options)
    if launch is not None and dry_run:
        yield launch.machine(device), launch.size, render
    elif launch is not None:
        from linfusion_cli.launched_ranks import Leader

        with Leader.met(launch, device) as leader:
            yield leader.machine, launch.size, leader.render
    elif ranks > 1:
        from linfusion_cli.render_ranks import RankProcesses, rank_machines

        machines = rank_machines(device, job.rank_options)
        with RankProcesses([machine.device for machine in machines]) as processes:
            yield machines[0], ranks, processes.render
    else:
        yield find_machine(device), 1, render


def is_first_process() -> bool:
    """Whether a launcher started this process as its first one, or none did: then it is the one that tells."""
    return os.environ.get("RANK", "0") in ("", "0")


def ranks_of(options: Options) -> RankOptions:
    """The processes that make each image of a batch together."""
    from linfusion_cli.config.rank_options import RankOptions

    return RankOptions.of(options.ranks, options.devices, shares=options.rank_shares)


def launched_command(device: str, options: RankOptions) -> str:
    """For the process of a batch that makes images: how it meets the other processes of a launcher; "" without one.

    Raises UsageError for ranks inside a launcher's processes.
    """
    if (launch := _launch()) is None:
        return ""
    _refuse_more_ranks(launch, options)
    from linfusion_cli.batch.worker_process import launched_words

    return launched_words(device, launch.command)


def refuse_launcher() -> None:
    """Raises UsageError in a launcher's processes: for a command that makes whole images, each would make them all."""
    if (launch := _launch()) is not None:
        raise UsageError(
            f"a launcher started {launch.size} processes, and each would make all images. Start the command once"
        )


def _refuse_more_ranks(launch: Launch, options: RankOptions) -> None:
    if options.ranks > 1:
        named = ",".join(options.devices)
        raise UsageError(
            f"{named or options.ranks}: a launcher started {launch.size} ranks already; leave it out",
            parameter="devices" if named else "ranks",
        )


def _launch() -> Launch | None:
    """What a launcher says of this process; nothing is imported where there is none."""
    if "RANK" not in os.environ:
        return None
    from linfusion_cli.launched_ranks import Launch

    return Launch.of(os.environ, shlex.join(sys.argv[1:]))
