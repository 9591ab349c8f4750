"""Where activations wait between two sweeps: on the device, in RAM, or in a file, the fastest that has space."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable
from functools import partial
from typing import IO

import torch

from linfusion_cli.engine.memory.async_copies import Copies, CudaStreams, Streams
from linfusion_cli.engine.memory.oom_policy import OutOfMemoryPolicy
from linfusion_cli.engine.memory.peers import ALONE, Peers
from linfusion_cli.engine.memory.prefetcher import CopiedSlab, Prefetcher
from linfusion_cli.engine.memory.slabs import FileSlab, MemorySlab, Shape, Slab
from linfusion_cli.geometry import Band
from linfusion_cli.planning.memory_budget import TIERS, StoreBudget, Tier, TierUsage


class ActivationStore:
    """Makes slabs in the fastest tier with space, in the order in which they are asked for.

    The plan makes the same choices in the same order, so it knows the tier of every slab. Where memory runs out all the
    same, a slab goes to the next tier, and `oom` makes the bands lower.

    device:     where bands are computed
    usage:      bytes of the slabs that are alive, by tier
    oom:        what happens where memory runs out
    prefetcher: copies ahead of the compute; None where the device has no streams beside it
    peers:      the processes that the rows of an image are split over
    fused:      norms, GEGLU and the autoencoder's attention run in fused kernels, each after a trial on the device
    """

    peers: Peers = ALONE
    fused = False

    def __init__(
        self,
        device: torch.device,
        budget: StoreBudget,
        tell: Callable[[str], None] = lambda _: None,
        streams: Streams | None = None,
        relieve: Callable[[], None] = lambda: None,
    ) -> None:
        """tell: gets a note for the user; relieve: is called after every band of every sweep.

        streams: those that copy beside the compute; None takes the device's own, if it has some.
        """
        if streams is None and device.type == "cuda":
            streams = CudaStreams.on(device)
        self.device, self.usage, self._relieve = device, TierUsage(budget), relieve
        self.prefetcher = Prefetcher(Copies(streams)) if streams else None
        release = self.prefetcher.release if self.prefetcher else lambda: None
        self.oom = OutOfMemoryPolicy(device, tell, release)

    @staticmethod
    def unlimited(device: torch.device) -> ActivationStore:
        """A store with everything on the device."""
        return ActivationStore(device, StoreBudget.unlimited())

    def at(self, latent_rows: int, levels: int) -> ActivationStore:
        """This store for images of `latent_rows` rows in a UNet of so many levels; see Peers."""
        return self

    def slab(self, shape: Shape, dtype: torch.dtype) -> Slab:
        """An empty slab; its space is free again when it is garbage. Raises OutputError if a file finds no space."""
        size_bytes = math.prod(shape) * dtype.itemsize
        planned = TIERS.index(self.usage.tier_for(size_bytes))
        for tier in TIERS[planned:]:
            made = self.oom.attempt(partial(self._make, tier, shape, dtype), last=tier == "file")
            if made is not None:
                break
            self.oom.tell(f"no memory for {size_bytes / 1e9:.2f} GB more, which had been planned: they wait elsewhere")
        assert made is not None
        self.usage.add(tier, size_bytes)
        slab = CopiedSlab(made, self.prefetcher) if self.prefetcher and tier != "device" else made
        weakref.finalize(slab, self._free, tier, size_bytes, made.file if isinstance(made, FileSlab) else None)
        return slab

    def start_sweep(self) -> None:
        """A sweep over some fields begins."""
        if self.prefetcher:
            self.prefetcher.start_sweep()

    def finish_band(self, band: Band, planned_height: int, height: int) -> None:
        """A band of a sweep over `height` rows is queued on the device: fetches what the next band will read."""
        self._relieve()
        if self.prefetcher:
            following = Band(band.bottom, min(band.bottom + self.oom.band_height(planned_height), height))
            look_ahead = partial(self.prefetcher.look_ahead, band, following, height)
            self.oom.attempt(look_ahead, last=False)  # without memory for it, rows are read when they are needed

    def _make(self, tier: Tier, shape: Shape, dtype: torch.dtype) -> MemorySlab | FileSlab:
        pinned = self.device.type == "cuda"
        if tier == "file":
            return FileSlab.create(self.usage.budget.folder, shape, dtype, pinned=pinned)
        if tier == "memory":
            return MemorySlab(torch.empty(shape, dtype=dtype, pin_memory=pinned))
        return MemorySlab(torch.empty(shape, dtype=dtype, device=self.device))

    def _free(self, tier: Tier, size_bytes: int, file: IO[bytes] | None) -> None:
        if file is not None:
            file.close()
        self.usage.remove(tier, size_bytes)
