"""An activation store of one rank: of every slab it holds the rank's own rows."""

from __future__ import annotations

import torch

from linfusion_cli.engine.distributed.process_group import Group
from linfusion_cli.engine.distributed.row_peers import RowPeers
from linfusion_cli.engine.distributed.shared_slab import SharedSlab
from linfusion_cli.engine.memory.activation_store import ActivationStore
from linfusion_cli.engine.memory.slabs import MemorySlab, Shape, Slab
from linfusion_cli.planning.row_split import RowSplit


class SharedStore(ActivationStore):
    """The slabs of `store`, split over the ranks of a group; budget, usage and fallbacks are those of `store`."""

    def __init__(self, store: ActivationStore, group: Group, split: RowSplit, shares: tuple[int, ...] = ()) -> None:
        """shares: of all ranks, by their number in the whole job; () for equal ones."""
        fetched = store.peers.fetched if isinstance(store.peers, RowPeers) else []
        vars(self).update(vars(store))  # one store seen through another split, not a second one
        self._group, self._split, self._shares = group, split, shares
        self.peers = RowPeers(group, split, fetched)

    def at(self, latent_rows: int, levels: int) -> SharedStore:
        """This store for images of another height."""
        return self.of(self._group, latent_rows, levels)

    def of(self, group: Group, latent_rows: int, levels: int) -> SharedStore:
        """This store for images of that height over another group."""
        shares = tuple(self._shares[rank] for rank in group.members) if self._shares else ()
        return SharedStore(self, group, RowSplit.of(latent_rows, levels, group.size, shares), self._shares)

    def slab(self, shape: Shape, dtype: torch.dtype) -> Slab:
        """An empty slab of an image of that shape; see ActivationStore.slab."""
        height, width, channels = shape
        own = self._split.own(self._group.rank, height)
        stored: Slab = MemorySlab(torch.empty((0, width, channels), dtype=dtype, device=self.device))
        if own.height:
            stored = super().slab((own.height, width, channels), dtype)
        return SharedSlab(stored, self._split, self._group, height, (width, channels), dtype)
