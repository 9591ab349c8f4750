"""A process of rank 1 or above: it computes its rows of the images that rank 0 plans, and writes no image."""

from __future__ import annotations

import json
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from linfusion_cli.engine_import import make_model_cache
from linfusion_cli.errors import LinfusionError, OutOfMemoryError, RanksError, ran_out_of_memory
from linfusion_cli.files import write_atomically
from linfusion_cli.planning.planner import Plan
from linfusion_cli.planning.rank_timeout import silent_seconds
from linfusion_cli.system.process_setup import FEW_PREPARED, importing, libc, own_process

if TYPE_CHECKING:
    from linfusion_cli.engine.components.model_cache import ModelCache
    from linfusion_cli.engine.distributed.process_group import Group
    from linfusion_cli.engine.distributed.ranks import Ranks

MEETING_SECONDS = 120.0
ASKING_SECONDS = 1800.0  # that rank 0 has to plan an image, and its user to answer whether it should go on
BOARD = "board"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG


def main() -> int:
    """Runs a rank above 0 until rank 0 sends no more plans. Returns the exit code.

    Its arguments are the root of the package, the folder where the ranks meet, its rank, the number of ranks, and its
    device.
    """
    own_process()
    _, folder_name, rank, size, device = sys.argv[1:6]
    folder = Path(folder_name)
    _die_with_parent()
    try:
        with importing(FEW_PREPARED):
            from linfusion_cli.engine import pipeline  # noqa: F401  # while rank 0 imports it, before the ranks meet

            world = joined(folder, int(rank), int(size), device)
        follow(world, device)
    except Exception as error:
        return _tell(error, folder / f"error-{rank}")
    return 0


def joined(folder: Path, rank: int, size: int, device: str) -> Group:
    """This process as a rank of the group that meets in a folder. Raises RanksError if not all come."""
    from linfusion_cli.engine.distributed.process_group import join
    from linfusion_cli.engine.distributed.waiting_board import WaitingBoard

    return join(
        rank,
        size,
        device,
        f"file://{folder / 'meeting'}",
        local_size=size,
        meeting_seconds=MEETING_SECONDS,
        silent_seconds=ASKING_SECONDS,
        board=WaitingBoard.of(folder / BOARD, rank, size),
    )


@contextmanager
def led(world: Group, plan: Plan) -> Iterator[Ranks]:
    """What rank 0 does for each image: the others get the plan, and compute while the block runs."""
    from linfusion_cli.engine.distributed.ranks import Ranks

    world.from_first(pickle.dumps(plan))
    ranks = Ranks.of(world.waiting(silent_seconds(plan)), plan.rank_shares)
    yield ranks
    ranks.close()


def dismiss(world: Group) -> None:
    """Tells the others that there are no more images."""
    world.from_first(b"")


def follow(world: Group, device: str) -> None:
    """What all other ranks do: they compute their rows of each image, until they are dismissed.

    Raises RanksError if another rank is lost, and what the work itself raises.
    """
    from linfusion_cli.engine import pipeline  # noqa: F401  # while rank 0 plans and imports it
    from linfusion_cli.engine.distributed.ranks import Ranks

    cache: ModelCache | None = None
    while data := world.from_first(b""):
        plan: Plan = pickle.loads(data)
        plan = replace(plan, machine=replace(plan.machine, device=device))
        if plan.keep_text_encoders and cache is None:
            cache = make_model_cache(plan)
        ranks = Ranks.of(world.waiting(silent_seconds(plan)), plan.rank_shares)
        _compute(plan, ranks, cache)
        ranks.close()


def _compute(plan: Plan, ranks: Ranks, cache: ModelCache | None) -> None:
    """Computes the rows of this rank at every stage and sends them to rank 0."""
    from linfusion_cli.engine.pipeline import images

    for image in images(plan, lambda _: None, None, cache, ranks):
        if image.final or plan.job.stages_folder is not None:  # as rank 0 reads them
            for _ in image.rows:
                pass
    ranks.uses()


def _tell(error: Exception, file: Path) -> int:
    """Writes the error to `file` for rank 0; returns its exit code."""
    code = getattr(error, "exit_code", LinfusionError.exit_code)
    message = str(error) if isinstance(error, LinfusionError) else f"{type(error).__name__}: {error}"
    if isinstance(error, MemoryError | RuntimeError) and ran_out_of_memory(error):
        code, message = OutOfMemoryError.exit_code, f"memory ran out ({message:.200})"
    elif not isinstance(error, LinfusionError):
        traceback.print_exc()
    write_atomically(file, json.dumps({"message": message, "exit_code": code}))
    return code


def _die_with_parent() -> None:
    if (library := libc()) is not None:
        library.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != int(os.environ.get("LINFUSION_PARENT", os.getppid())):
        os._exit(RanksError.exit_code)
