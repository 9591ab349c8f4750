"""Fréchet distances between sets of features, and bootstrap intervals of scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

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

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^1/2), m the means and S the covariances (arXiv 1706.08500). It needs more rows
    than dimensions, and it falls as their number grows (arXiv 1911.07023): compare equal counts only.
    """
    a, b = ours.double(), theirs.double()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    first, second = torch.cov(a.T), torch.cov(b.T)
    # tr (S1 S2)^1/2: the eigenvalues of a product of covariances are at least 0, but for rounding
    root = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    return float(mean + first.trace() + second.trace() - 2 * root)


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
