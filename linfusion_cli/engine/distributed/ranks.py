"""The processes that make one image together: what the engine asks of them beside the rows of activations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch

from linfusion_cli.engine.distributed.guidance_split import GuidanceSplit
from linfusion_cli.engine.distributed.process_group import Group, Parcel
from linfusion_cli.engine.distributed.shared_store import SharedStore
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.meter import process_peak_bytes
from linfusion_cli.errors import RanksError, UsageError
from linfusion_cli.planning.rank_share import halves
from linfusion_cli.planning.render_plan import RenderPlan
from linfusion_cli.planning.row_split import RowSplit, useful_ranks

Rows = np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]  # (rows, width, 3)


class Keeper(Protocol):
    """Stores checkpoints; see engine/sampling/latent_checkpoint.py."""

    def find(self, name: str) -> bytes: ...

    def keep(self, name: str, data: bytes) -> None: ...

    def due(self, *, finished: bool) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RankUse:
    """What one of several ranks took: its peak of memory, and the bytes that it sent to others."""

    peak_bytes: int
    halo_bytes: int
    statistics_bytes: int
    gathered_bytes: int


@dataclass(frozen=True, slots=True)
class Ranks:
    """All processes of one image. split: for guidance; None for an odd number of them; shares: see RenderPlan."""

    world: Group
    split: GuidanceSplit | None
    shares: tuple[int, ...] = ()

    @staticmethod
    def of(world: Group, shares: tuple[int, ...] = ()) -> Ranks:
        """All members call it, once."""
        return Ranks(world, GuidanceSplit(world, world.halves()) if world.size % 2 == 0 else None, shares)

    def close(self) -> None:
        """Leaves the groups of this image, once all its messages have come; other groups of the ranks stay."""
        for group in (*(self.split.halves if self.split else ()), self.world):
            group.close()

    def check(self, plan: RenderPlan, levels: int, made_with: str) -> None:
        """Raises RanksError for ranks with other weights, UsageError for more ranks than the image has parts.

        levels: of the UNet; made_with: a fingerprint of weights and prompt
        """
        self.world.require_same("weights", made_with)
        last = plan.stages[-1]
        rows, guided = last.canvas.latent().height, halves(last, self.world.size) == 2
        useful = useful_ranks(self.world.size, rows, levels, guided=guided)
        if self.world.size > useful:
            raise UsageError(
                f"{self.world.size}: some would have no rows of {last.size} to compute. Nearest: {useful}",
                parameter="ranks",
            )

    def uses(self) -> tuple[RankUse, ...]:
        """What each rank took. All call it when the image is there: a rank lost by then is no loss."""
        sent = self.world.traffic
        own = RankUse(
            peak_bytes=process_peak_bytes(),
            halo_bytes=sent.halos,
            statistics_bytes=sent.statistics,
            gathered_bytes=sent.gathered,
        )
        try:
            return tuple(self.world.all_objects(own))
        except RanksError:
            return ()

    def store(self, store: ActivationStore) -> SharedStore:
        """A store of which every rank holds its own rows; use its `at`."""
        return SharedStore(store, self.world, RowSplit(1, self.world.size), self.shares)

    def for_guidance(
        self, store: ActivationStore, latent_rows: int, levels: int
    ) -> tuple[ActivationStore, GuidanceSplit | None]:
        """The store of this process's half, and the halves; the same store and None for an odd number of ranks."""
        if self.split is None:
            return store, None
        return self.store(store).of(self.split.mine, latent_rows, levels), self.split

    def keeper(self, keeper: Keeper) -> Keeper:
        """The first rank's checkpoints for all."""
        return _SharedKeeper(self.world, keeper)

    def at_the_writer(self, own: Iterator[Rows], width: int) -> Iterator[Rows]:
        """On the first rank the rows of all, in order, as they arrive; on the others nothing, once they are sent.

        own: this rank's rows of the image, `width` pixels wide, which are read on every rank
        """
        if self.world.rank:
            self._send(own)
            return
        yield from own
        for member in range(1, self.world.size):
            yield from self._received(member, width)

    def _send(self, own: Iterator[Rows]) -> None:
        """Computes on while the writer is busy with the rows above: at most this rank's rows wait, as bytes."""
        sending = []
        for rows in own:
            self.world.traffic.gathered += rows.nbytes
            height = torch.tensor([len(rows)], device=self.world.device)
            sending += [self.world.send(Parcel(0, height))]
            sending += [self.world.send(Parcel(0, torch.from_numpy(rows).to(self.world.device)))]
        sending += [self.world.send(Parcel(0, torch.zeros(1, dtype=torch.int64, device=self.world.device)))]
        for finish in sending:
            finish()

    def _received(self, member: int, width: int) -> Iterator[Rows]:
        """Bands of rows, each after its height, until a height of 0."""
        height = torch.zeros(1, dtype=torch.int64, device=self.world.device)
        while True:
            self.world.exchange([], [Parcel(member, height)])
            if not int(height):
                return
            rows = torch.empty((int(height), width, 3), dtype=torch.uint8, device=self.world.device)
            self.world.exchange([], [Parcel(member, rows)])
            yield rows.cpu().numpy()


@dataclass(frozen=True, slots=True)
class _SharedKeeper:
    """Checkpoints that the first rank finds for all and keeps alone: they hold whole latents, whatever the split."""

    world: Group
    first: Any

    def find(self, name: str) -> bytes:
        found: bytes = self.world.from_first(self.first.find(name) if self.world.rank == 0 else b"")
        return found

    def keep(self, name: str, data: bytes) -> None:
        if self.world.rank == 0:
            self.first.keep(name, data)

    def due(self, *, finished: bool) -> bool:
        return self.world.rank == 0 and bool(self.first.due(finished=finished))
