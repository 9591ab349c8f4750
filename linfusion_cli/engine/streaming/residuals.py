"""Residuals: what ControlNets and T2I-Adapters add inside the UNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor

from linfusion_cli.engine.streaming.row_source import Added, Field, Mapped, Parked
from linfusion_cli.geometry import Band


@dataclass(frozen=True, slots=True)
class SampleResiduals:
    """The residuals of one sample; each field has the size and channels of what it is added to.

    down:   of a ControlNet, one for every skip from the first convolution on, added after the down blocks
    middle: of a ControlNet, added after the middle block; () or one
    inside: of a T2I-Adapter, one for every down block, added inside it, and for some models one for the middle block
    """

    down: tuple[Field, ...] = ()
    middle: tuple[Field, ...] = ()
    inside: tuple[Field, ...] = ()

    @property
    def groups(self) -> tuple[tuple[Field, ...], ...]:
        return self.down, self.middle, self.inside


@dataclass(frozen=True, slots=True)
class Residuals:
    """The residuals of every sample of a batch."""

    samples: tuple[SampleResiduals, ...]

    @staticmethod
    def none(batch: int) -> Residuals:
        """No residuals, for `batch` samples."""
        return Residuals((SampleResiduals(),) * batch)

    def plus(self, other: Residuals) -> Residuals:
        """The sums of these and other residuals of the same batch."""
        pairs = zip(self.samples, other.samples, strict=True)
        sums = ((_sums(a, b) for a, b in zip(one.groups, more.groups, strict=True)) for one, more in pairs)
        return Residuals(tuple(SampleResiduals(*groups) for groups in sums))

    def after_zeros(self, count: int) -> Residuals:
        """These, with so many samples before them to which nothing is added."""
        zero = [
            tuple(Mapped(field, torch.zeros_like) for field in group) for group in self.samples[0].groups
        ]  # a UNet adds to all samples of a batch or to none
        return Residuals((SampleResiduals(*zero),) * count + self.samples)

    @staticmethod
    def of(down: Sequence[Tensor] = (), middle: Tensor | None = None, inside: Sequence[Tensor] = ()) -> Residuals:
        """From tensors (batch, channels, height, width) of a ControlNet (down, middle) or a T2I-Adapter (inside)."""
        middles = () if middle is None else (middle,)
        batch = len((*down, *middles, *inside)[0])
        parts = [
            [tuple(Parked.of(part[i : i + 1]) for part in group) for group in (down, middles, inside)]
            for i in range(batch)
        ]
        return Residuals(tuple(SampleResiduals(*(tuple(group) for group in part)) for part in parts))

    def for_diffusers(self) -> dict[str, list[Tensor] | Tensor]:
        """As keyword arguments of a diffusers UNet."""
        first = self.samples[0]
        options: dict[str, list[Tensor] | Tensor] = {}
        if first.inside:
            options["down_intrablock_additional_residuals"] = _together([sample.inside for sample in self.samples])
        if first.down:
            options["down_block_additional_residuals"] = _together([sample.down for sample in self.samples])
            options["mid_block_additional_residual"] = _together([sample.middle for sample in self.samples])[0]
        return options


def combined(parts: Sequence[Residuals]) -> Residuals | None:
    """The sums of several networks' residuals; None without networks."""
    return reduce(Residuals.plus, parts) if parts else None


def _sums(one: tuple[Field, ...], other: tuple[Field, ...]) -> tuple[Field, ...]:
    return tuple(Added(a, b) for a, b in zip(one, other, strict=True)) if one and other else one or other


def _together(samples: list[tuple[Field, ...]]) -> list[Tensor]:
    return [torch.cat([field.rows(Band(0, field.height)) for field in fields]) for fields in zip(*samples, strict=True)]
