"""Distances and intervals: known answers."""

import numpy as np
import pytest
import torch

from linfusion_cli.evaluate.bootstrap import Score, distance_score, frechet, kernel_score, mean_score

pytestmark = pytest.mark.slow  # all of them together


def features(count: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) * scale + shift


def test_a_set_is_at_no_distance_from_itself() -> None:
    assert frechet(features(300, 0), features(300, 0)) == pytest.approx(0, abs=1e-6)


def test_two_sets_of_one_kind_are_near_and_the_nearer_the_more_they_are() -> None:
    few, many = frechet(features(50, 0), features(50, 1)), frechet(features(5000, 0), features(5000, 1))
    assert many < few < 1.5
    assert many < 0.02


def test_the_distance_of_gaussians_is_the_formulas() -> None:
    """Means 2 apart on six axes, deviations 1 and 3: 6 (2^2 + (3 - 1)^2)."""
    assert frechet(features(200_000, 0), features(200_000, 1, 2.0, 3.0)) == pytest.approx(48, rel=0.01)


def test_correlated_features_against_a_matrix_root() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(500, 6, dtype=torch.float64) @ torch.randn(6, 6, dtype=torch.float64) for _ in range(2))
    first, second = torch.cov(a.T), torch.cov(b.T)
    values, vectors = torch.linalg.eigh(first)
    half = vectors @ values.sqrt().diag() @ vectors.T
    root = torch.linalg.eigvalsh(half @ second @ half).sqrt().sum()
    slow = (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * root
    assert frechet(a, b) == pytest.approx(float(slow), rel=1e-9)


def test_fewer_rows_than_dimensions_against_a_matrix_root() -> None:
    a, b = (torch.randn(rows, 12, generator=torch.Generator().manual_seed(rows)).double() for rows in (5, 30))
    first, second = torch.cov(a.T), torch.cov(b.T)
    root = torch.linalg.eigvals(first @ second).real.clamp(min=0).sqrt().sum()
    slow = (a.mean(0) - b.mean(0)).square().sum() + first.trace() + second.trace() - 2 * root
    assert frechet(a, b) == pytest.approx(float(slow), rel=1e-6)


def test_the_kernel_distance_is_the_mean_over_all_pairs() -> None:
    a, b = features(20, 0).double(), features(15, 1, 0.7).double()

    def kernel(x: torch.Tensor, y: torch.Tensor) -> float:
        return float((x @ y / 6 + 1) ** 3)

    own = [kernel(x, y) for i, x in enumerate(a) for j, y in enumerate(a) if i != j]
    other = [kernel(x, y) for i, x in enumerate(b) for j, y in enumerate(b) if i != j]
    between = [kernel(x, y) for x in a for y in b]
    slow = sum(own) / len(own) + sum(other) / len(other) - 2 * sum(between) / len(between)
    score = kernel_score(a, b)
    assert score.value == pytest.approx(slow, rel=1e-9)
    assert score.low < score.value < score.high
    assert abs(kernel_score(features(400, 2), features(400, 3)).value) < 0.1 * kernel_score(a, b).value


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(60):
        score = mean_score(list((rng.random(80) < 0.7).astype(float)), trial)
        hits += score.low <= 0.7 <= score.high
    assert 0.85 <= hits / 60 <= 1.0


def test_a_distance_lies_in_its_interval_and_groups_widen_it() -> None:
    ours, theirs = features(200, 0), features(200, 1, 0.5)
    alone = distance_score(ours, theirs)
    assert alone.low <= alone.value <= alone.high
    fourfold = distance_score(ours.repeat_interleave(4, 0), theirs.repeat_interleave(4, 0), group=4)
    assert fourfold.high - fourfold.low == pytest.approx(alone.high - alone.low, rel=0.5)


def test_texts() -> None:
    assert Score(0.9314, 0.91, 0.952).text(100) == "93.1 (91.0 to 95.2)"
