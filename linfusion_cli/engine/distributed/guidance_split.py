"""Guidance over two halves of the ranks: one computes the prompt's prediction, the other the negative prompt's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from linfusion_cli.engine.distributed.process_group import Group, Parcel


@dataclass(frozen=True, slots=True)
class GuidanceSplit:
    """Two halves of equal size, in each of which every rank gets the whole prediction.

    Rank i of one half and rank i of the other exchange their predictions: the only message between the halves.
    """

    world: Group
    halves: tuple[Group, Group]

    @property
    def index(self) -> int:
        """Which half this process belongs to: 0 or 1."""
        return 0 if self.halves[0].rank >= 0 else 1

    @property
    def mine(self) -> Group:
        """The half that this process belongs to."""
        return self.halves[self.index]

    def first(self, function: Callable[[], Tensor], like: Tensor) -> Tensor:
        """The function's result, which the first half computes for both: float32 of the shape of `like`.

        The second could only do the same, perhaps on another kind of processor, which rounds otherwise.
        """
        partner = self.halves[1 - self.index].members[self.mine.rank]
        if self.index:
            result = torch.empty_like(like, dtype=torch.float32, memory_format=torch.contiguous_format)
            self.world.exchange([], [Parcel(partner, result)])
            return result
        result = function().contiguous()
        self.world.traffic.gathered += result.nbytes
        self.world.exchange([Parcel(partner, result)], [])
        return result

    def both(self, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
        """The results of both functions, of which this process calls one; they have one shape and dtype."""
        own = (first, second)[self.index]().contiguous()
        other = torch.empty_like(own)
        partner = self.halves[1 - self.index].members[self.mine.rank]
        self.world.traffic.gathered += own.nbytes
        self.world.exchange([Parcel(partner, own)], [Parcel(partner, other)])
        return (own, other) if self.index == 0 else (other, own)
