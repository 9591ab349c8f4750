"""Fréchet distances between sets of features, and bootstrap intervals of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

Rows = np.ndarray[tuple[int], np.dtype[np.int64]]
RESAMPLES = 1000
DISTANCE_RESAMPLES = 200  # each takes the eigenvalues of a matrix


@dataclass(frozen=True, slots=True)
class Score:
    """A number with the limits of its 95 % bootstrap interval, in the same unit."""

    value: float
    low: float
    high: float

    def text(self, scale: float = 1.0, digits: int = 1) -> str:
        """The score times `scale`, with `digits` decimals: "93.1 (91.0 to 95.2)"."""
        value, low, high = (f"{number * scale:.{digits}f}" for number in (self.value, self.low, self.high))
        return f"{value} ({low} to {high})"


def frechet(ours: Tensor, theirs: Tensor) -> float:
    """Fréchet distance of Gaussians fitted to two sets of features, each (count, dim); 0 for equal sets.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), m the means and S the covariances (arXiv 1706.08500). It falls
    as the number of rows grows (arXiv 1911.07023), most of all below the number of dimensions: compare equal counts.
    """
    a, b = ours.double(), theirs.double()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    first, second = ((x - x.mean(0)) / (len(x) - 1) ** 0.5 for x in (a, b))  # S1 = first^T first
    root = _root_trace(first, second)
    return float(mean + first.square().sum() + second.square().sum() - 2 * root)


def _root_trace(first: Tensor, second: Tensor) -> Tensor:
    """tr (S1 S2)^1/2 of two covariances S = x^T x: the sum of the singular values of first second^T.

    With more rows than columns it is cheaper from the product of the covariances themselves, whose eigenvalues are at
    least 0, but for rounding.
    """
    if min(len(first), len(second)) < first.shape[1]:
        singular: Tensor = torch.linalg.svdvals(first @ second.T)
        return singular.sum()
    eigenvalues: Tensor = torch.linalg.eigvals((first.T @ first) @ (second.T @ second))
    return eigenvalues.real.clamp(min=0).sqrt().sum()


def kernel_score(ours: Tensor, theirs: Tensor, seed: int = 0) -> Score:
    """Kernel distance (KID) of two sets of features, each (count, dim), of two rows at least (arXiv 1801.01401).

    The unbiased squared maximum mean discrepancy of the kernel (x.y / dim + 1)^3, which may fall below 0 by chance. The
    interval is that of random halves of both sets, which are wider spread than the whole.
    """
    a, b = ours.double(), theirs.double()
    within, between, others = (_kernel(x, y).numpy() for x, y in ((a, a), (a, b), (b, b)))
    rng = np.random.default_rng(seed)

    def discrepancy(mine: Rows, reference: Rows) -> float:
        own, other = within[np.ix_(mine, mine)], others[np.ix_(reference, reference)]
        alike = sum((k.sum() - k.trace()) / (len(k) * (len(k) - 1)) for k in (own, other))
        return float(alike - 2 * between[np.ix_(mine, reference)].mean())

    def half(count: int) -> Rows:
        return rng.permutation(count)[: max(2, count // 2)]

    halves = [discrepancy(half(len(a)), half(len(b))) for _ in range(DISTANCE_RESAMPLES)]
    value = discrepancy(np.arange(len(a)), np.arange(len(b)))
    return Score(value, *map(float, np.quantile(halves, (0.025, 0.975))))


def _kernel(first: Tensor, second: Tensor) -> Tensor:
    return (first @ second.T / first.shape[1] + 1) ** 3


def standardised(ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
    """Both sets (count, dim), shifted and scaled so that each feature of `theirs` has mean 0 and deviation 1."""
    mean, deviation = theirs.mean(0), theirs.std(0) + 1e-6
    return (ours - mean) / deviation, (theirs - mean) / deviation


def mean_score(values: list[float], seed: int = 0) -> Score:
    """The mean of one number per image, with its percentile bootstrap interval. `values` holds one number at least."""
    array = np.asarray(values, dtype=np.float64)
    rng = np.random.default_rng(seed)
    means = array[rng.integers(0, len(array), (RESAMPLES, len(array)))].mean(1)
    return Score(float(array.mean()), *map(float, np.quantile(means, (0.025, 0.975))))


def distance_score(ours: Tensor, theirs: Tensor, group: int = 1, seed: int = 0) -> Score:
    """Fréchet distance of two sets (count, dim), with its bootstrap interval.

    group: rows of one image, which are drawn together; divides both counts
    A resample has fewer different images, which raises the distance: the interval is shifted so that its median is the
    distance itself, and is cut off at 0.
    """
    value = frechet(ours, theirs)
    rng = np.random.default_rng(seed)
    drawn = np.array([frechet(_drawn(ours, group, rng), _drawn(theirs, group, rng)) for _ in range(DISTANCE_RESAMPLES)])
    drawn += value - np.median(drawn)
    return Score(value, *(max(0.0, float(limit)) for limit in np.quantile(drawn, (0.025, 0.975))))


def _drawn(features: Tensor, group: int, rng: np.random.Generator) -> Tensor:
    groups = features.view(-1, group, features.shape[1])
    return groups[torch.from_numpy(rng.integers(0, len(groups), len(groups)))].flatten(0, 1)
