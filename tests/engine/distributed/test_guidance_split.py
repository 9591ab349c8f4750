"""Both halves of the ranks get both predictions, of which each computes one, or the one of the first half."""

import pytest
from rank_work import both_predictions, first_prediction
from ranks import Ranks


@pytest.mark.parametrize("size", [2, pytest.param(4, marks=pytest.mark.long), pytest.param(6, marks=pytest.mark.long)])
def test_each_half_computes_one(ranks: Ranks, size: int) -> None:
    answers = ranks.run(size, both_predictions)
    assert [called for called, _, _ in answers] == ["negative"] * (size // 2) + ["prompt"] * (size // 2)
    assert all(values == (1.0, 2.0) for _, values, _ in answers)
    assert all(sent == 4 * 5 * 3 * 4 for _, _, sent in answers)  # one prediction in float32, once


def test_the_first_half_computes_for_both(ranks: Ranks) -> None:
    answers = ranks.run(2, first_prediction)
    assert answers == [(1, 2.0, 4 * 5 * 3 * 4), (0, 2.0, 0)]
