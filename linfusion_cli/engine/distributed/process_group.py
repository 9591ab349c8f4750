"""Messages between the processes that make one image: gloo on CPUs, NCCL on CUDA, with counted bytes and named errors.

Every process calls the methods of a Group in the same order.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.distributed_c10d import PrefixStore
from torch.distributed.rendezvous import rendezvous

from linfusion_cli.engine.distributed.waiting_board import WaitingBoard
from linfusion_cli.errors import RanksError, ran_out_of_memory
from linfusion_cli.system.device import usable_cores

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}


@dataclass(slots=True)
class Traffic:
    """Bytes that this process sent to others, without the libraries' own headers.

    halos:       rows for other processes' convolutions and attention windows
    statistics:  of norms, and states of linear attention
    gathered:    parts of results that all processes, or the writer, need whole
    """

    halos: int = 0
    statistics: int = 0
    gathered: int = 0

    @property
    def total(self) -> int:
        return self.halos + self.statistics + self.gathered


@dataclass(frozen=True, slots=True)
class Parcel:
    """A tensor to send to, or to receive from, a member of a group (its index there)."""

    member: int
    tensor: Tensor


@dataclass(frozen=True, slots=True)
class Group:
    """Some of the processes. rank: this one's index among `members`, which are ranks of the whole job.

    board: where the ranks of one machine say that they wait; None where they are on several, or of tests
    """

    rank: int
    members: tuple[int, ...]
    device: torch.device
    handle: Any
    traffic: Traffic = field(default_factory=Traffic)
    seconds: float = 1800.0
    board: WaitingBoard | None = None

    @property
    def size(self) -> int:
        return len(self.members)

    def exchange(self, sent: Sequence[Parcel], received: Sequence[Parcel]) -> None:
        """Sends and receives tensors, each contiguous and on the group's device, all at once.

        Raises RanksError if another process is gone, or silent for longer than the timeout.
        """
        both = ((dist.isend, sent), (dist.irecv, received))
        # in the order of members: NCCL pairs the messages of two processes by their order
        operations = [
            dist.P2POp(call, message.tensor, self.members[message.member], self.handle)
            for call, messages in both
            for message in messages
            if message.tensor.numel()
        ]
        if operations:
            with _named(self):
                for request in dist.batch_isend_irecv(operations):
                    request.wait()

    def send(self, parcel: Parcel) -> Callable[[], None]:
        """Starts to send a tensor; returns what waits until it has left. It must not be changed before."""
        with _named(self):
            request = dist.isend(parcel.tensor, self.members[parcel.member], self.handle)

        def finish() -> None:
            kept = parcel  # its memory is needed until then
            with _named(self):
                if request is not None:
                    request.wait()
            del kept

        return finish

    def all_gathered(self, own: Tensor) -> list[Tensor]:
        """The tensors of all members, of one shape and dtype, in their order."""
        parts = [torch.empty_like(own) for _ in self.members]
        with _named(self):
            dist.all_gather(parts, own.contiguous(), group=self.handle)
        return parts

    def all_summed(self, own: Tensor) -> Tensor:
        """The sum of the tensors of all members: the same bits on each."""
        total = own.clone(memory_format=torch.contiguous_format)
        with _named(self):
            dist.all_reduce(total, group=self.handle)
        return total

    def all_objects(self, own: object) -> list[Any]:
        """The picklable values of all members, in their order."""
        values: list[Any] = [None] * self.size
        with _named(self):
            dist.all_gather_object(values, own, group=self.handle)
        return values

    def from_first(self, value: object) -> Any:
        """The first member's value, which pickle can store; that of the others is not looked at."""
        values: list[Any] = [value if self.rank == 0 else None]
        with _named(self):
            dist.broadcast_object_list(values, src=self.members[0], group=self.handle, device=self.device)
        return values[0]

    def require_same(self, what: str, value: str) -> None:
        """Raises RanksError, on all members, where this value differs between them."""
        values = self.all_objects(value)
        if different := [rank for rank, other in enumerate(values) if other != values[0]]:
            rank = different[0]
            raise RanksError(
                f"the ranks have different {what}: rank 0 has {values[0]:.40}, rank {rank} has {values[rank]:.40}. "
                "Start all with the same command, version and files"
            )

    def waiting(self, seconds: float) -> Group:
        """The same processes, which wait no longer than `seconds` for one another, with no byte sent yet.

        All members call it, in the same order as all other methods.
        """
        with _named(self):
            handle = dist.new_group(list(self.members), timedelta(seconds=seconds))
        return replace(self, handle=handle, seconds=seconds, traffic=Traffic())

    def close(self) -> None:
        """Frees the connections of this group, which a method made of another one."""
        if self.rank >= 0:
            dist.destroy_process_group(self.handle)

    def halves(self) -> tuple[Group, Group]:
        """Two groups of half the members each; this process belongs to one. All members call it, once."""
        middle, me = self.size // 2, self.members[self.rank]
        parts = (self.members[:middle], self.members[middle:])
        with _named(self):
            handles = [dist.new_group(list(part), timedelta(seconds=self.seconds)) for part in parts]
        first, second = (
            replace(self, rank=part.index(me) if me in part else -1, members=part, handle=handle)
            for part, handle in zip(parts, handles, strict=True)
        )
        return first, second


def connect(rank: int, size: int, device: torch.device, init_method: str, seconds: float, address: str = "") -> Group:
    """Meets the other processes. init_method: env:// or file:///path, as torch.distributed reads it.

    address: where env:// leads, for the message

    Raises RanksError if they do not all come within `seconds`.
    """
    patience = timedelta(seconds=seconds)
    try:
        store, _, _ = next(rendezvous(init_method, rank, size, timeout=patience))
        store.set_timeout(patience)
        dist.init_process_group(
            BACKENDS[device.type],
            store=PrefixStore(_attempt(), store),
            rank=rank,
            world_size=size,
            timeout=patience,
            device_id=device if device.type == "cuda" else None,
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise RanksError(
            f"rank {rank} of {size} did not meet the others within {seconds:.0f} seconds at "
            f"{address or init_method} "
            f"({_first_line(error)}). Start all ranks at one time, with one address"
        ) from error
    return Group(rank, tuple(range(size)), device, dist.group.WORLD, seconds=seconds)


def _attempt() -> str:
    """A name apart from earlier attempts: the store of torchrun --max-restarts has the addresses of dead processes."""
    return f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def join(
    rank: int,
    size: int,
    device: str,
    init_method: str,
    *,
    local_size: int,
    meeting_seconds: float,
    silent_seconds: float,
    address: str = "",
    board: WaitingBoard | None = None,
) -> Group:
    """As connect(), for a process that computes on `device`: a CPU, of whose cores it gets its part, or a card.

    local_size: how many of the processes are on this machine; silent_seconds: how long a message may take afterwards
    """
    where = torch.device(device)
    if where.type == "cuda":
        torch.cuda.set_device(where)
    else:
        torch.set_num_threads(max(1, usable_cores() // local_size))
        if local_size == size:  # no other machine
            os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    with nullcontext() if board is None else board.waiting():
        met = connect(rank, size, where, init_method, meeting_seconds, address)
    return replace(met, board=board).waiting(silent_seconds)


def disconnect() -> None:
    """Leaves the other processes, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def _named(group: Group) -> Iterator[None]:
    """Turns the library's errors of a lost or silent process into ours."""
    try:
        with nullcontext() if group.board is None else group.board.waiting():
            yield
    except (RuntimeError, ValueError, pickle.PickleError) as error:
        if ran_out_of_memory(error):
            raise
        raise RanksError(
            f"rank {group.members[group.rank]}: another rank ended or was silent for {group.seconds:.0f} seconds "
            f"({_first_line(error)})"
        ) from error


def _first_line(error: BaseException) -> str:
    return f"{(str(error).splitlines() or [type(error).__name__])[0]:.120}"
