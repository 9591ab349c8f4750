"""What ControlNets and T2I-Adapters add inside the UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from linfusion_cli.engine.streaming.row_source import Added, Field, Parked
from linfusion_cli.geometry import Band


@dataclass(frozen=True, slots=True)
class SampleResiduals:
    """For one sample; each field has the size and channels of what it is added to.

    down:   one for every skip, from the first convolution on, added when the way down is done (ControlNet)
    middle: added after the middle block (ControlNet); () or one
    inside: one for every block on the way down, added inside it, and for some models one for the middle (T2I-Adapter)
    """

    down: tuple[Field, ...] = ()
    middle: tuple[Field, ...] = ()
    inside: tuple[Field, ...] = ()

    @property
    def groups(self) -> tuple[tuple[Field, ...], ...]:
        return self.down, self.middle, self.inside


@dataclass(frozen=True, slots=True)
class Residuals:
    """For every sample of a batch."""

    samples: tuple[SampleResiduals, ...]

    @staticmethod
    def none(batch: int) -> Residuals:
        """Nothing is added."""
        return Residuals((SampleResiduals(),) * batch)

    def plus(self, other: Residuals) -> Residuals:
        """Both together."""
        pairs = zip(self.samples, other.samples, strict=True)
        return Residuals(
            tuple(
                SampleResiduals(*(_sums(a, b) for a, b in zip(one.groups, more.groups, strict=True)))
                for one, more in pairs
            )
        )

    @staticmethod
    def of(down: Sequence[Tensor] = (), middle: Tensor | None = None, inside: Sequence[Tensor] = ()) -> Residuals:
        """From a diffusers ControlNet's (down, middle) or a T2I-Adapter's (inside) tensors (batch, channels, height, width)."""
        middles = () if middle is None else (middle,)
        batch = len((*down, *middles, *inside)[0])
        parts = [
            [tuple(Parked.of(part[i : i + 1]) for part in group) for group in (down, middles, inside)]
            for i in range(batch)
        ]
        return Residuals(tuple(SampleResiduals(*(tuple(group) for group in part)) for part in parts))

    def for_diffusers(self) -> dict[str, list[Tensor] | Tensor]:
        """As the arguments of a diffusers UNet."""
        first = self.samples[0]
        options: dict[str, list[Tensor] | Tensor] = {}
        if first.inside:
            options["down_intrablock_additional_residuals"] = _together([sample.inside for sample in self.samples])
        if first.down:
            options["down_block_additional_residuals"] = _together([sample.down for sample in self.samples])
            options["mid_block_additional_residual"] = _together([sample.middle for sample in self.samples])[0]
        return options


def combined(parts: Sequence[Residuals]) -> Residuals | None:
    """What several networks add, together; None if there are none."""
    return reduce(Residuals.plus, parts) if parts else None


def _sums(one: tuple[Field, ...], other: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(Added(a, b) for a, b in zip(one, other, strict=True)) if one and other else one or other


def _together(samples: list[tuple[Field, ...]]) -> list[Tensor]:
    return [torch.cat([field.rows(Band(0, field.height)) for field in fields]) for fields in zip(*samples, strict=True)]
