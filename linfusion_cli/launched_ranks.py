"""One image by processes that a launcher started: torchrun, srun or mpirun, on one machine or several.

    torchrun --standalone --nproc-per-node 2 -m linfusion_cli generate "a lake"

Each process runs the whole command. The one of rank 0 resolves it, plans, shows the progress and writes the image; the
others get its plan and compute their rows (docs/many-devices.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from linfusion_cli import __version__
from linfusion_cli.engine_import import as_measured, import_engine
from linfusion_cli.errors import UsageError, option
from linfusion_cli.events import Notify
from linfusion_cli.planning.planner import Plan
from linfusion_cli.rank_process import ASKING_SECONDS, MEETING_SECONDS, dismiss, led
from linfusion_cli.rank_process import follow as follow_plans
from linfusion_cli.render import Rendered, prepare, render
from linfusion_cli.render_ranks import shared_machine
from linfusion_cli.system.device import Machine, RankDevice, find_machine
from linfusion_cli.system.process_setup import FEW_PREPARED, importing

if TYPE_CHECKING:
    from linfusion_cli.engine.components.model_cache import ModelCache
    from linfusion_cli.engine.distributed.process_group import Group

NAMES = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOCAL_NAMES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE")


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What a launcher says of this process: its rank of all, and of those on its machine.

    command: what it was told to do, which has to be the same for all
    """

    rank: int
    size: int
    local_rank: int
    local_size: int
    address: str
    command: str = ""

    @staticmethod
    def of(environment: Mapping[str, str], command: str = "") -> Launch | None:
        """None if no launcher started this process, or it started no other. Raises UsageError for odd numbers."""
        if not all(environment.get(name) for name in NAMES):
            return None
        rank, size = (_whole(environment, name) for name in NAMES[:2])
        local_rank, local_size = (
            _whole(environment, name) if environment.get(name) else other
            for name, other in zip(LOCAL_NAMES, (rank, size), strict=True)
        )
        if not (0 <= rank < size and 0 <= local_rank < local_size <= size):
            raise UsageError(
                f"the environment says rank {rank} of {size} and local rank {local_rank} of {local_size}: "
                "start all with torchrun, which numbers them from 0"
            )
        address = f"{environment['MASTER_ADDR']}:{environment['MASTER_PORT']}"
        made = Launch(
            rank=rank, size=size, local_rank=local_rank, local_size=local_size, address=address, command=command
        )
        return made if size > 1 else None

    def machine(self, device: str) -> Machine:
        """This process's part of its machine: a card of its own, or its share of the memory of the CPU."""
        machine = find_machine(device)
        if machine.kind == "cuda":
            machine = find_machine(f"cuda:{self.local_rank}")
            return replace(machine, ram_bytes=machine.ram_bytes // self.local_size)
        if machine.kind != "cpu":
            raise UsageError(f"{machine.device}: ranks compute on CUDA or on the CPU. Give ", option("device", "cpu"))
        return shared_machine(machine, self.local_size)


def _whole(environment: Mapping[str, str], name: str) -> int:
    try:
        return int(environment[name])
    except ValueError:
        raise UsageError(f'{name}="{environment[name]:.40}" in the environment: a launcher sets a number') from None


@dataclass(slots=True)
class Leader:
    """Rank 0, which has met the others.

    machine: the one to plan for, with the least memory that any rank has; lost: an image has failed on the way, and the
    others with it
    """

    world: Group
    machine: Machine
    lost: bool = False

    @staticmethod
    @contextmanager
    def met(launch: Launch, device: str) -> Iterator[Leader]:
        """Raises RanksError if not all ranks come within two minutes, or if one has another version of linfusion."""
        with _met(launch, device) as (world, machine):
            leader = Leader(world, machine)
            yield leader
            if not leader.lost:
                dismiss(world)

    def render(self, plan: Plan, notify: Notify, model_cache: ModelCache | None = None) -> Rendered:
        """As render.render(), with the others. Raises RanksError if one of them is lost."""
        prepare(plan)
        import_engine(plan.machine, plan.dtype, FEW_PREPARED)
        plan = as_measured(plan, notify)
        self.lost = True
        with led(self.world, plan) as ranks:
            rendered = render(plan, notify, model_cache, ranks)
        self.lost = False
        return rendered


def follow(launch: Launch, device: str) -> None:
    """What every rank above 0 does: it computes its rows of the images that rank 0 plans, and writes nothing.

    Raises RanksError if rank 0 is lost, and what the work itself raises.
    """
    with _met(launch, device) as (world, machine):
        follow_plans(world, machine.device)


@contextmanager
def _met(launch: Launch, device: str) -> Iterator[tuple[Group, Machine]]:
    """Yields the group of all ranks and this rank's machine, once all are there; leaves the group afterwards."""
    machine = launch.machine(device)
    with importing(FEW_PREPARED):
        from linfusion_cli.engine.distributed.process_group import disconnect, join

        world = join(
            launch.rank,
            launch.size,
            machine.device,
            "env://",
            address=launch.address,
            local_size=launch.local_size,
            meeting_seconds=MEETING_SECONDS,
            silent_seconds=ASKING_SECONDS,
        )
    try:
        world.require_same("versions", __version__)
        world.require_same("devices", machine.kind)
        world.require_same("commands", launch.command)
        own = RankDevice.of(machine, launch.local_size if machine.kind == "cpu" else 1)
        free, devices = zip(*world.all_objects((machine.free_bytes, own)), strict=True)
        yield world, replace(machine, free_bytes=min(free), rank_devices=devices)
    finally:
        disconnect()
