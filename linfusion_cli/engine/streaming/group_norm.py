"""GroupNorm's statistics of a whole image, gathered row by row, so that they do not depend on the bands."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from linfusion_cli.engine.memory.dtypes import for_sums
from linfusion_cli.engine.streaming import fused_layers

CACHE_BYTES = 1 << 20  # of rows whose statistics a CPU gathers at once: they stay in its cache (docs/log.md)


@dataclass(slots=True)
class Statistics:
    """Mean and sum of squared deviations per channel of every row of an image, merged when all rows are there.

    Every row counts alone, whatever the band's height, so the same image gives the same statistics.
    height: of the image, or of the part of it that this process computes
    fused: each row in one kernel that reads it once
    """

    height: int
    fused: bool = False
    # (2, height, channels), means and deviations; allocated at once, since small tensors would scatter over the heap
    _rows: Tensor | None = None
    _done: int = 0
    _width: int = 0

    def add(self, rows: Tensor) -> None:
        """Adds the next rows (1, channels, height, width) of the image."""
        values = rows[0].permute(1, 2, 0)  # (height, width, channels), a view
        self._width, channels = values.shape[1:]
        exact = torch.promote_types(torch.float32, values.dtype)
        if self._rows is None:
            self._rows = torch.empty(2, self.height, channels, dtype=exact, device=values.device)
        if self.fused:
            done = slice(self._done, self._done + len(values))
            self._rows[0, done], self._rows[1, done] = fused_layers.row_moments(values)
            self._done = done.stop
            return
        for part in values.split(_rows_in_cache(values)):
            numbers, done = part.to(exact), slice(self._done, self._done + len(part))
            means = numbers.mean(1)
            self._rows[0, done] = means
            self._rows[1, done] = (numbers - means.unsqueeze(1)).square_().sum(1)  # far faster than torch.var_mean
            self._done += len(part)

    def moments(self) -> Moments:
        """Mean and variance of all rows, merged as Chan, Golub and LeVeque do (1983, The American Statistician)."""
        assert self._rows is not None
        assert self._done == self.height, "a norm needs all rows"
        means, deviations = self._rows.to(for_sums(self._rows))
        mean = means.mean(0)
        variance = (deviations / self._width + (means - mean).square()).mean(0)
        return Moments(mean, variance)


def _rows_in_cache(values: Tensor) -> int:
    """How many rows of (height, width, channels) are gone through at once: four passes over a whole band would each
    read it from memory. At least one for each thread; on a GPU all.
    """
    if values.device.type != "cpu":
        return max(1, len(values))
    row_bytes = values.shape[1] * values.shape[2] * max(4, values.dtype.itemsize)
    return max(torch.get_num_threads(), CACHE_BYTES // max(1, row_bytes))


@dataclass(frozen=True, slots=True)
class Moments:
    """Mean and variance per channel, each (channels,), in the dtype of for_sums."""

    mean: Tensor
    variance: Tensor

    @staticmethod
    def of_no_rows(channels: int, device: torch.device) -> Moments:
        """Zeros, for a process that computes no rows."""
        nothing = torch.zeros(channels, device=device)
        return Moments(*nothing.to(for_sums(nothing)).expand(2, -1))

    def joined(self, other: Moments) -> Moments:
        """The moments of the channels of both, one after the other."""
        return Moments(torch.cat([self.mean, other.mean]), torch.cat([self.variance, other.variance]))

    def group_norm(self, norm: nn.GroupNorm) -> tuple[Tensor, Tensor]:
        """The scale and shift per channel, each (channels,), that make GroupNorm a multiplication and an addition."""
        mean, within = self.mean.view(norm.num_groups, -1), self.variance.view(norm.num_groups, -1)
        group_mean = mean.mean(1, keepdim=True)
        variance = (within + (mean - group_mean).square()).mean(1, keepdim=True)
        scale = (variance + norm.eps).rsqrt().expand_as(mean).flatten()
        if norm.weight is not None:
            scale = scale * norm.weight.to(scale.dtype)
        shift = -group_mean.expand_as(mean).flatten() * scale
        return scale, shift if norm.bias is None else shift + norm.bias.to(shift.dtype)


def affine(rows: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """rows * scale + shift, rounded once: scale and shift stay in float32 at least, as in torch's own GroupNorm.

    rows: (1, channels, height, width); scale, shift: (channels,). Rounded to bfloat16, they would make the error of a
    norm three times as large.
    """
    exact = torch.promote_types(torch.float32, rows.dtype)
    scale, shift = scale.to(exact), shift.to(exact)
    if rows.dtype != exact and rows.device.type == "cpu":  # addcmul would first make float32 of the rows
        return F.batch_norm(rows, torch.zeros_like(scale), torch.ones_like(scale), scale, shift, eps=0.0)
    out = torch.empty_like(rows)
    return torch.addcmul(shift.view(1, -1, 1, 1), rows, scale.view(1, -1, 1, 1), out=out)
